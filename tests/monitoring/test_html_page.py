"""Templates hold all markup and escape all else; Python holds none; nothing is left out quietly."""

import ast
import io
import pathlib
import re

import jinja2
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import data_pipelines
from qwen_audio_jax import monitoring
from qwen_audio_jax.monitoring.html_page import (
    chart,
    clip_of,
    environment,
    plain,
    tags_apart,
    write_page,
)

MODULES = [
    path
    for package in (monitoring, data_pipelines)
    for path in sorted(pathlib.Path(package.__path__[0]).glob("*.py"))
]
TEMPLATES = ["inspect.html", "page.html", "parts.html", "report.html", "style.css"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_markup_is_written_in_python(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            # A tag opens, closes or declares; a control token begins otherwise.
            assert not re.search(r"<[a-zA-Z/!]", node.value), f"{path}:{node.lineno}"


def test_every_template_is_found_and_none_switches_escaping_off():
    found = environment("data_pipelines")
    assert found.list_templates() == TEMPLATES
    for name in TEMPLATES:
        found.get_template(name)
        source, *_ = found.loader.get_source(found, name)
        assert not re.search(r"\|\s*safe|autoescape|Markup", source), name


def test_a_page_that_lacks_something_is_an_error_and_leaves_no_file(tmp_path):
    with pytest.raises(jinja2.UndefinedError, match="'known' is undefined"):
        write_page(tmp_path / "page.html", "data_pipelines", "inspect.html", title="A corpus")
    assert list(tmp_path.iterdir()) == []


@given(st.text("<|>an \n").filter(str.strip))
def test_spaces_and_tags_of_a_text_are_its_own(text):
    parts = tags_apart(text)
    assert "".join(part for _, part in parts) == text
    for is_tag, part in parts:
        assert is_tag == (re.fullmatch(r"<\|.*?\|>", part) is not None)
    written = environment("data_pipelines").get_template("parts.html").module.with_tags(text)
    assert re.sub(r"<[^>]*>", "", written) == text.replace("<", "&lt;").replace(">", "&gt;")
    assert written.count('<wbr><span class="tag">') == sum(is_tag for is_tag, _ in parts)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (1234567, "1,234,567"),
        (0.123456, "0.1235"),
        (True, "yes"),
        (None, "-"),
        ({"a": 1.5, "b": [False, "c"]}, "a: 1.5, b: no, c"),
    ],
)
def test_values_are_told_as_people_read_them(value, read):
    assert plain(value) == read


@pytest.mark.parametrize(
    ("value", "read"), [(0, "0"), (0.5, "0.5"), (-2.5, "-2.5"), (999, "999"), (12_000, "12k")]
)
def test_numbers_at_an_axis(value, read):
    svg = chart(lambda axes: axes.set_yticks([value]), "x", "x", wide=True).drawn
    assert f">{read}<" in svg


@pytest.mark.parametrize(
    ("value", "told"),
    [(np.nan, "not numbers"), (-np.inf, "not numbers"), (1e30, "times full scale"), (0.5, "")],
)
@pytest.mark.parametrize("rate", [16_000, 22_050])
def test_a_clip_whose_samples_are_no_numbers_says_so(value, told, rate):
    wave = np.zeros(rate, np.float32)
    wave[rate // 2] = value
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format="WAV", subtype="FLOAT")
    clip = clip_of(file.getvalue(), "a")
    assert (clip.spectrogram is None) == bool(told)
    assert told in clip.problem
