"""`report.html`: a run's facts, curves, scores and held-out answers in one file to look at.

The file needs nothing else: pictures and audio are inside it, it loads nothing and runs no script.
"""

import base64
import dataclasses
import html
import io
import os
import pathlib
import re
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

import librosa
import matplotlib
import matplotlib.image
import matplotlib.ticker
import numpy as np
import soundfile
from matplotlib.figure import Figure

from qwen_audio_jax.metrics.classification import is_correct
from qwen_audio_jax.metrics.table import gain, scale_of, verdict
from qwen_audio_jax.report_style import STYLE
from qwen_audio_jax.tasks import TASKS

SAMPLE_RATE = 16_000  # Hz, what the encoders hear
_MEL_BINS = 80
_WINDOW, _HOP = 400, 160  # samples; 25 and 10 ms
_WIDEST = 1000  # columns of a picture; more would not show

# Colours that matplotlib may write and the style sheet then replaces, so that curves follow the
# reader's light or dark scheme.
_INK, _RAW, _SMOOTH = "#010203", "#010204", "#010205"
_SCHEME = {_INK: "currentColor", _RAW: "var(--raw)", _SMOOTH: "var(--accent)"}


@dataclasses.dataclass(frozen=True)
class Example:
    """A held-out record and the model's answer to it.

    Attributes:
        task: a key of `qwen_audio_jax.tasks.TASKS`.
        id: the record's.
        prompt: what the model was asked, as text.
        clips: encoded audio, as stored (FLAC, Ogg, WAV, MP3).
        reference: the right answer.
        hypothesis: the model's.
    """

    task: str
    id: str
    prompt: str
    clips: Sequence[bytes]
    reference: str
    hypothesis: str


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    run_info: dict[str, Any],
    metrics: list[dict[str, Any]],
    evaluation: list[dict[str, Any]],
    examples: list[Example],
) -> None:
    """Writes the report; a reader sees either the old file or the new one, never half of one.

    Args:
        path: of the HTML file; its folder must exist.
        title: heading of the page.
        run_info: facts of the run by name, in the order to show: model, parameters, corpus ...
        metrics: the rows of `metrics.jsonl`.
        evaluation: the rows of `evaluation.json`.
        examples: held-out examples, in the order to show.
    """
    sections = (
        _facts(run_info),
        _section("Training", _curves(metrics)),
        _section("Evaluation", _evaluation(evaluation)),
        _section("Held-out examples", "".join(_card(e) for e in examples), "cards"),
    )
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main><h1>{html.escape(title)}</h1>{''.join(sections)}</main></body></html>\n"
    )
    path = pathlib.Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(page.encode("utf-8", errors="replace"))
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # mkstemp's 0600 would hide the report from colleagues
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _section(title: str, body: str, css_class: str = "") -> str:
    body = body or "<p class=none>Nothing to show.</p>"
    return f"<section><h2>{title}</h2><div class='{css_class}'>{body}</div></section>"


def _facts(run_info: dict[str, Any]) -> str:
    rows = "".join(
        f"<div><dt>{html.escape(str(name))}</dt><dd>{html.escape(_plain(value))}</dd></div>"
        for name, value in run_info.items()
    )
    return f"<dl class=facts>{rows}</dl>"


def _plain(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    return str(value)


# Curves -------------------------------------------------------------------------------------------


def _curves(metrics: list[dict[str, Any]]) -> str:
    # A resumed run logs some steps twice; the later line is the run that went on.
    rows = {row["step"]: row for row in metrics if "step" in row}
    panels = []
    for field, label, wide in (
        ("loss", "training loss", True),
        ("tokens_per_second", "tokens per second", False),
    ):
        points = [
            (step, float(row[field]))
            for step, row in sorted(rows.items())
            if isinstance(row.get(field), int | float) and np.isfinite(row[field])
        ]
        if points:
            steps, values = np.array(points).T
            panels.append(_curve(steps, values, label, wide))
    return f"<div class=curves>{''.join(panels)}</div>" if panels else ""


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Centred Gaussian average over about a thirtieth of the run, so that it does not lag."""
    sigma = len(values) / 60
    reach = min(int(3 * sigma), (len(values) - 1) // 2)
    window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1.0)) ** 2)
    # Towards the ends fewer points lie within reach; the weights are those that do.
    weights = np.convolve(np.ones(len(values)), window, mode="same")
    return np.convolve(values, window, mode="same") / weights


def _curve(steps: np.ndarray, values: np.ndarray, label: str, wide: bool) -> str:
    smooth = _smoothed(values)
    # Fonts stay text and ids are told apart by the label, as both curves share one page.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": label, "font.size": 10}):
        figure = Figure(figsize=(6.4 if wide else 3.6, 3.0), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(steps, values, color=_RAW, linewidth=0.8, marker="." if len(steps) == 1 else "")
        axes.plot(steps, smooth, color=_SMOOTH, linewidth=1.8)
        axes.set_title(label, color=_INK, loc="left", fontsize=10)
        axes.set_xlabel("step", color=_INK)
        axes.tick_params(colors=_INK)
        axes.grid(color=_INK, alpha=0.12, linewidth=0.6)
        axes.xaxis.get_major_locator().set_params(integer=True, nbins=6 if wide else 4)
        axes.yaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
        if label == "tokens per second":
            axes.set_ylim(bottom=0)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_edgecolor(_INK)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True)
    said = (
        f"{label}: {values[0]:,.4g} at step {steps[0]:,.0f}, "
        f"{smooth[-1]:,.4g} (smoothed) at step {steps[-1]:,.0f}"
    )
    svg = _inline_svg(out.getvalue(), said)
    note = f"<figcaption>{html.escape(said)}</figcaption>"
    return f"<figure class='{'wide' if wide else 'side'}'>{svg}{note}</figure>"


def _inline_svg(svg: str, alt: str) -> str:
    """Strips what only a stand-alone SVG file needs, and takes the colours from the page."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    start, rest = svg[svg.index("<svg") :].split(">", 1)
    view_box = re.search(r'viewBox="[^"]*"', start).group()
    svg = f'<svg role="img" aria-label="{html.escape(alt)}" {view_box}>{rest}'
    for colour, variable in _SCHEME.items():
        svg = svg.replace(colour, variable)
    return svg


# Evaluation ---------------------------------------------------------------------------------------


def _evaluation(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    body, task = [], None
    for row in rows:
        scale, judged = scale_of(row["metric"]), verdict(row)
        arrow = "lower is better" if scale.lower_is_better else "higher is better"
        name = "" if row["task"] == task else html.escape(row["task"].replace("_", " "))
        task = row["task"]
        body.append(
            f"<tr><th scope=row>{name}</th>"
            f"<td>{html.escape(scale.name)} <span class=dim title='{arrow}' aria-label='{arrow}'>"
            f"{'↓' if scale.lower_is_better else '↑'}</span></td>"
            f"<td class='num value {judged}'>{html.escape(scale.text(row['value']))}</td>"
            f"<td class='num dim'>{html.escape(scale.text(row['baseline']))}</td>"
            f"<td>{_bar(row)}</td><td class='num dim'>{row['n']:,}</td></tr>"
        )
    return (
        "<div class=scroll tabindex=0><table><thead><tr>"
        "<th scope=col>Task</th><th scope=col>Metric</th>"
        "<th scope=col class=num>Value</th><th scope=col class=num>Baseline</th>"
        "<th scope=col>Against baseline</th><th scope=col class=num>n</th></tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
        "<p class=dim>The baseline is what one gets without listening: the commonest answer, an "
        "empty one, or evenly spread times. The bar is the share of the way from there to a "
        "perfect score; to the left, it is worse than not listening.</p>"
    )


def _bar(row: dict[str, Any]) -> str:
    share, judged = gain(row), verdict(row)
    if share is None:
        return f"<span class='{judged}'>{judged or '-'}</span>"
    length = 50 * min(1.0, abs(share))
    left = 50 if share >= 0 else 50 - length
    return (
        f"<span class=bar role=img aria-label='{judged}, {share:+.0%}'>"
        f"<span class='fill {judged}' style='left:{left:.1f}%;width:{length:.1f}%'></span></span>"
        f"<span class='share {judged}'>{share:+.0%}</span>"
    )


# Examples -----------------------------------------------------------------------------------------


def _card(example: Example) -> str:
    mark = ""
    if example.task in TASKS and TASKS[example.task].metric == "accuracy":
        right = is_correct(example.reference, example.hypothesis)
        mark = "<span class=right>✓ right</span>" if right else "<span class=wrong>✗ wrong</span>"
    texts = "".join(
        f"<dt>{name}</dt><dd dir=auto>{_with_tags(text)}</dd>"
        for name, text in (
            ("Prompt", example.prompt),
            ("Reference", example.reference),
            ("Answer", example.hypothesis),
        )
    )
    clips = "".join(
        clip_figure(clip, f"{example.task} {example.id}, clip {i}")
        for i, clip in enumerate(example.clips, start=1)
    )
    return (
        f"<article><header><h3>{html.escape(example.task.replace('_', ' '))}</h3>{mark}"
        f"<span class=id>{html.escape(example.id)}</span></header>"
        f"{clips}<dl class=texts>{texts}</dl></article>"
    )


def _with_tags(text: str) -> str:
    if not text.strip():
        return "<span class=none>(empty)</span>"
    return re.sub(r"&lt;\|.*?\|&gt;", r"<span class=tag>\g<0></span>", html.escape(text))


def clip_figure(clip: bytes, name: str) -> str:
    """HTML of one encoded clip: its log-mel spectrogram over a time axis, and a player.

    A clip that cannot be decoded gets a sentence that says so in place of the picture.
    """
    try:
        picture = _spectrogram(clip, name)
    except (soundfile.SoundFileError, ValueError) as error:
        # libsndfile's sentence alone: the whole message names a memory address instead of a file.
        reason = html.escape(str(getattr(error, "error_string", error)))
        picture = f"<p class=wrong>This clip could not be decoded: {reason}</p>"
    source = _data_uri(clip, audio_type(clip))
    label = html.escape(f"Audio of {name}")
    player = f'<audio controls preload="metadata" aria-label="{label}" src="{source}"></audio>'
    return f"<figure class=clip>{picture}{player}</figure>"


def audio_type(clip: bytes) -> str:
    """The MIME type that the first bytes of a FLAC, Ogg, WAV or MP3 file tell."""
    for magic, mime in (
        (b"fLaC", "audio/flac"),
        (b"OggS", "audio/ogg"),
        (b"RIFF", "audio/wav"),
        (b"ID3", "audio/mpeg"),
    ):
        if clip.startswith(magic):
            return mime
    is_mpeg_frame = len(clip) > 1 and clip[0] == 0xFF and clip[1] & 0xE0 == 0xE0
    return "audio/mpeg" if is_mpeg_frame else "application/octet-stream"


def _data_uri(content: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def _spectrogram(clip: bytes, name: str) -> str:
    samples, rate = soundfile.read(io.BytesIO(clip), dtype="float32", always_2d=True)
    if not len(samples):
        raise ValueError("it holds no samples")
    mono = librosa.resample(samples.mean(axis=1), orig_sr=rate, target_sr=SAMPLE_RATE)
    seconds = len(samples) / rate
    mono = np.pad(np.nan_to_num(mono), (0, max(0, _WINDOW - len(mono))))
    power = librosa.feature.melspectrogram(
        y=mono,
        sr=SAMPLE_RATE,
        n_fft=_WINDOW,
        hop_length=max(_HOP, len(mono) // _WIDEST),
        n_mels=_MEL_BINS,
        pad_mode="constant",
    )
    # 80 dB down from the loudest point; the floor keeps a silent clip dark.
    decibels = librosa.power_to_db(power, ref=max(float(power.max()), 1e-4), amin=1e-12)
    png = io.BytesIO()
    matplotlib.image.imsave(
        png, decibels, format="png", cmap="magma", origin="lower", vmin=-80, vmax=0
    )
    alt = html.escape(f"Log-mel spectrogram of {name}: {seconds:.2f} s, 0 to 8 kHz")
    picture = f'<img alt="{alt}" title="{alt}" src="{_data_uri(png.getvalue(), "image/png")}">'
    return f"{picture}<div class=axis aria-hidden=true>{''.join(_ticks(seconds))}</div>"


def _ticks(seconds: float) -> Iterable[str]:
    """Marks at round times, so that a time in an answer can be found in the picture."""
    step = next((s for s in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60) if seconds / s <= 6), seconds)
    for time in np.arange(0, seconds * (1 + 1e-6), step):
        at = 100 * time / seconds
        # The last label would stick out on the right.
        side = " class=end" if at > 92 else ""
        yield f"<span{side} style='left:{at:.2f}%'>{time:g}{' s' if time == 0 else ''}</span>"
