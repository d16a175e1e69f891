"""What the HTML pages share: one self-contained file with facts, charts, pictures and players.

Python says what a page shows, as plain data; how it is written is in `templates/`. A page needs
nothing else: pictures and audio are inside it, it loads nothing, and is read without a script too.
"""

import base64
import dataclasses
import io
import os
import pathlib
import re
import tempfile
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import jinja2
import librosa
import matplotlib
import matplotlib.image
import matplotlib.ticker
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qwen_audio_jax.audio.decode import check_level, read_samples
from qwen_audio_jax.audio.formats import kinds
from qwen_audio_jax.audio.lengths import SAMPLE_RATE

_SHARED = "qwen_audio_jax.monitoring"  # whose templates all pages share
_MEL_BINS = 80
_WINDOW, _HOP = 400, 160  # samples; 25 and 10 ms
_WIDEST = 1000  # columns of a picture; more would not show

_MIME = {
    "aac": "audio/aac",
    "aiff": "audio/aiff",
    "amr": "audio/amr",
    "asf": "audio/x-ms-wma",
    "au": "audio/basic",
    "caf": "audio/x-caf",
    "flac": "audio/flac",
    "matroska": "audio/webm",
    "mov": "audio/mp4",
    "mp3": "audio/mpeg",
    "ogg": "audio/ogg",
    "riff": "audio/wav",
    "wav": "audio/wav",
}
"""By the kind of file; browsers play most of them."""

# Colours that matplotlib may write and the style sheet then replaces, so that curves follow the
# reader's light or dark scheme.
INK, RAW, SMOOTH = "#010203", "#010204", "#010205"
_SCHEME = {INK: "currentColor", RAW: "var(--raw)", SMOOTH: "var(--accent)"}

_THOUSANDS = matplotlib.ticker.EngFormatter(sep="")


def environment(package: str) -> jinja2.Environment:
    """Where templates come from: a package's `templates/`, then those that all pages share.

    Whatever a page shows is escaped, and what it lacks is an error.

    Args:
        package: name of the package, e.g. "data_pipelines".
    """
    loaders = [jinja2.PackageLoader(name) for name in (package, _SHARED)]
    made = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"plain": plain, "tags_apart": tags_apart}
    return made


def write_page(path: str | os.PathLike[str], package: str, template: str, **content: Any) -> None:
    """Writes a page; a reader sees either the old file or the new one, never half of one.

    Args:
        path: of the HTML file; its folder must exist.
        package: name of the package whose `templates/` holds the template.
        template: file name of a template that extends `page.html`.
        content: what it shows by name, `title` among it, as plain data. An iterator is gone
            through once, while the page is written.

    Raises:
        OSError: the file cannot be written.
        jinja2.TemplateError: the template asks for what `content` lacks.
    """
    page = environment(package).get_template(template)
    path = pathlib.Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            page.stream(**content).dump(file, "utf-8", errors="replace")
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # mkstemp's 0600 would hide the report from colleagues
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def plain(value: Any) -> str:
    """A value as people read it: 1234567 is 1,234,567, True is yes, None is a dash."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value)
    return str(value)


def tags_apart(text: str) -> list[tuple[bool, str]]:
    """Splits a text at its control tokens; returns (whether it is one, the text) of each part."""
    parts = re.split(r"(<\|.*?\|>)", text)
    return [(number % 2 == 1, part) for number, part in enumerate(parts) if part]


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart to look at.

    Attributes:
        said: what it shows, in a sentence.
        wide: whether it is a main chart, or one beside it.
        view_box: of the SVG, its attribute `viewBox`.
        drawn: what lies inside the SVG element, as markup.
    """

    said: str
    wide: bool
    view_box: str
    drawn: Markup


def chart(draw: Callable[[Axes], None], label: str, said: str, *, wide: bool) -> Chart:
    """Draws a chart.

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
        axes.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(_tick))
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_edgecolor(INK)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True)
    return Chart(said, wide, *_inline_svg(out.getvalue()))


def _tick(value: float, _: int = 0) -> str:
    """A number at an axis: 12k, but 0.5."""
    return _THOUSANDS(value) if abs(value) >= 1000 else f"{value:g}"


def _inline_svg(svg: str) -> tuple[str, Markup]:
    """Takes a stand-alone SVG file apart; returns (its view box, what lies in it, as markup).

    What only a file needs is left out, and the colours are the page's.
    """
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        # HTML knows SVG's elements without their namespace, and xlink by its prefix alone.
        element.tag = _local(element.tag)
        for name in [name for name in element.attrib if name.startswith("{")]:
            element.set(f"xlink:{_local(name)}", element.attrib.pop(name))
    drawn = "".join(
        ElementTree.tostring(child, encoding="unicode") for child in root if child.tag != "metadata"
    )
    for colour, variable in _SCHEME.items():
        drawn = drawn.replace(colour, variable)
    return root.get("viewBox"), Markup(drawn)


def _local(name: str) -> str:
    return name.rpartition("}")[2]


@dataclasses.dataclass(frozen=True)
class Spectrogram:
    """A picture of a clip.

    Attributes:
        picture: a PNG as a data URI: log-mel energies, time from left to right.
        seconds: how long the clip is.
        ticks: marks at round times: (time in seconds, where it lies in percent of the width).
    """

    picture: str
    seconds: float
    ticks: list[tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Clip:
    """A clip to look at and listen to.

    Attributes:
        name: what it is called in the page.
        audio: the encoded clip as a data URI.
        spectrogram: its picture; None if it cannot be decoded.
        problem: then why not, else "".
    """

    name: str
    audio: str
    spectrogram: Spectrogram | None
    problem: str = ""


def clip_of(encoded: bytes, name: str) -> Clip:
    """An encoded clip for the page; one that cannot be decoded says so there."""
    audio = _data_uri(encoded, audio_type(encoded))
    try:
        return Clip(name, audio, _spectrogram(encoded))
    except ValueError as error:
        return Clip(name, audio, None, str(error))


def audio_type(clip: bytes) -> str:
    """The MIME type of an audio file."""
    return _MIME.get(kinds.find(clip)[0], "application/octet-stream")


def _data_uri(content: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def _spectrogram(clip: bytes) -> Spectrogram:
    samples, rate = read_samples(clip)
    if not len(samples):
        raise ValueError("it holds no samples")
    check_level(samples)
    mono = librosa.resample(samples.mean(axis=1), orig_sr=rate, target_sr=SAMPLE_RATE)
    seconds = len(samples) / rate
    mono = np.pad(mono, (0, max(0, _WINDOW - len(mono))))
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
    return Spectrogram(_data_uri(png.getvalue(), "image/png"), seconds, _ticks(seconds))


def _ticks(seconds: float) -> list[tuple[float, float]]:
    """Marks at round times, so that a time in an answer can be found in the picture."""
    step = next((s for s in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60) if seconds / s <= 6), seconds)
    return [(time, 100 * time / seconds) for time in np.arange(0, seconds * (1 + 1e-6), step)]
