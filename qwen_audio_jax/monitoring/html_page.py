"""What the HTML pages share: one self-contained file with facts, charts, pictures and players.

A page needs nothing else: pictures and audio are inside it, it loads nothing and runs no script.
"""

import base64
import html
import io
import os
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

import librosa
import matplotlib
import matplotlib.image
import matplotlib.ticker
import numpy as np
import soundfile
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qwen_audio_jax.monitoring.html_style import STYLE

SAMPLE_RATE = 16_000  # Hz, what the encoders hear
_MEL_BINS = 80
_WINDOW, _HOP = 400, 160  # samples; 25 and 10 ms
_WIDEST = 1000  # columns of a picture; more would not show

# Colours that matplotlib may write and the style sheet then replaces, so that curves follow the
# reader's light or dark scheme.
INK, RAW, SMOOTH = "#010203", "#010204", "#010205"
_SCHEME = {INK: "currentColor", RAW: "var(--raw)", SMOOTH: "var(--accent)"}


def write_page(path: str | os.PathLike[str], title: str, sections: Iterable[str]) -> None:
    """Writes a page; a reader sees either the old file or the new one, never half of one.

    Args:
        path: of the HTML file; its folder must exist.
        title: heading of the page, as text.
        sections: HTML, from `section` and `facts`.
    """
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


def section(title: str, body: str, css_class: str = "") -> str:
    """HTML of a part of the page; body is HTML too."""
    body = body or "<p class=none>Nothing to show.</p>"
    return f"<section><h2>{title}</h2><div class='{css_class}'>{body}</div></section>"


def facts(known: dict[str, Any]) -> str:
    """HTML of named values, as people read them."""
    rows = "".join(
        f"<div><dt>{html.escape(str(name))}</dt><dd>{html.escape(_plain(value))}</dd></div>"
        for name, value in known.items()
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


def chart(draw: Callable[[Axes], None], label: str, said: str, *, wide: bool) -> str:
    """HTML of a chart.

    Args:
        draw: puts the data, in the colours RAW and SMOOTH, onto the axes.
        label: its heading; unlike every other chart's on the page.
        said: what it shows, in a sentence below it.
        wide: whether it is a main chart, or one beside it.
    """
    # Fonts stay text and ids are told apart by the label, as all charts share one page.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": label, "font.size": 10}):
        figure = Figure(figsize=(6.4 if wide else 3.6, 3.0), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.set_title(label, color=INK, loc="left", fontsize=10)
        axes.xaxis.label.set_color(INK)
        axes.tick_params(colors=INK)
        axes.grid(color=INK, alpha=0.12, linewidth=0.6)
        axes.yaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_edgecolor(INK)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True)
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


def with_tags(text: str) -> str:
    """HTML of a text whose control tokens stand out."""
    if not text.strip():
        return "<span class=none>(empty)</span>"
    # A line may end at a tag's edge; else a word that is glued to one would be broken in two.
    tag = r"<wbr><span class=tag>\g<0></span><wbr>"
    return re.sub(r"&lt;\|.*?\|&gt;", tag, html.escape(text))


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
