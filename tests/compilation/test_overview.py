"""The table of all setups, and the document that holds it."""

import pathlib

import pytest

from qwen_audio_jax.compilation import overview
from qwen_audio_jax.compilation.topology import SETUPS, Place, Setup, parse_topology

SCALE = pathlib.Path(__file__).parents[2] / "docs" / "scale.md"


def found(topology):
    slices = parse_topology(topology)
    return {
        "devices": slices.chips * slices.chip.devices,
        "hbm_total_gib": 14.6,
        "hbm_limit_gib": 15.75,
        "collectives": {"all-gather": {"bytes": 3e9}, "all-reduce": {"bytes": 4e9}},
        "mfu_bound": 0.834,
        "bound": "compute",
        "audio_seconds_per_chip_second": 100.0,
    }


def test_a_line():
    at = Place("pretrain", "qwen2_audio_7b", "2x v5e:16x16")
    assert overview.row(at, Setup(2048, 4, "full", replica=2), found(at.topology)) == (
        "| `pretrain.py:qwen2_audio_7b` | 2x v5e:16x16 | 2 x 256 x 1 | 4, full | 14.6 of 15.8 | "
        "7 | 83%, compute | 100 | 1,000 |"
    )
    at = Place("sft", "qwen2_audio_7b", "v5e:4x4")
    line = overview.row(at, Setup(64, 4, "dots", lora_rank=16), found(at.topology))
    assert line.startswith("| `sft.py:qwen2_audio_7b`, LoRA 16 | v5e:4x4 | 1 x 16 x 1 | 4, dots |")


def test_the_table_comes_between_the_marks(tmp_path, monkeypatch):
    monkeypatch.setattr(overview, "report", lambda at: found(at.topology))
    path, told = tmp_path / "scale.md", []
    path.write_text(f"before\n\n{overview.BEGIN}\nold\n{overview.END}\n\nafter\n")
    overview.write(path, told.append)
    overview.write(path, told.append)
    text = path.read_text()
    assert text.startswith(f"before\n\n{overview.BEGIN}\n| configuration |")
    assert text.endswith(f" |\n{overview.END}\n\nafter\n")
    assert len(told) == 2 * len(SETUPS)
    assert all(line in text for line in told)


def test_one_that_does_not_fit_is_named_and_nothing_is_written(tmp_path, monkeypatch):
    def report(at):
        if at.topology == "v5e:16x16":
            raise ValueError(f"{at.name}: does not fit")
        return found(at.topology)

    monkeypatch.setattr(overview, "report", report)
    path, told = tmp_path / "scale.md", []
    path.write_text(f"{overview.BEGIN}\nold\n{overview.END}\n")
    said = r"left as it was; pretrain\.py:qwen2_audio_7b@v5e:16x16: does not fit"
    with pytest.raises(ValueError, match=said):
        overview.write(path, told.append)
    assert path.read_text() == f"{overview.BEGIN}\nold\n{overview.END}\n"
    assert len(told) == len(SETUPS)


def test_a_document_without_marks_is_left_alone(tmp_path):
    path = tmp_path / "scale.md"
    path.write_text("text\n")
    with pytest.raises(ValueError, match="needs a line <!-- setups -->"):
        overview.write(path, print)
    assert path.read_text() == "text\n"


def test_a_document_that_is_not_there_is_told_before_anything_compiles(tmp_path, monkeypatch):
    monkeypatch.setattr(overview, "report", None)
    for path in (tmp_path / "nowhere" / "scale.md", tmp_path):
        with pytest.raises(ValueError, match=r"--overview: .* is no file that can be read"):
            overview.write(path, print)


def test_the_checked_in_table_is_of_the_checked_in_setups():
    lines = [
        line.split(" | ")
        for line in SCALE.read_text().splitlines()
        if line.startswith("| `") and ".py:" in line
    ]
    of_setups = [
        overview.row(at, setup, found(at.topology)).split(" | ") for at, setup in SETUPS.items()
    ]
    assert [line[:4] for line in lines] == [line[:4] for line in of_setups]
