"""The page of keys is up to date, and describes every key of every configuration."""

import pathlib
import re
import runpy
import subprocess
import sys

import pytest

from qwen_audio_jax.compilation.topology import SETUPS
from qwen_audio_jax.configuration_page import PRETRAIN, descriptions, page
from qwen_audio_jax.models.attention import BACKENDS
from qwen_audio_jax.models.layers import REMAT
from qwen_audio_jax.models.presets import FAMILIES, PRESETS
from qwen_audio_jax.run_config import (
    FREE_KEYS,
    DataConfig,
    RunConfig,
    TrainConfig,
    dotted,
    flat,
    from_mapping,
    to_json,
)
from qwen_audio_jax.tasks import CONDITIONINGS

ROOT = pathlib.Path(__file__).parents[1]
SETUP_NAMES = [f"{at.preset}@{at.topology}" for at in SETUPS if at.config == "pretrain"]


@pytest.fixture(scope="module")
def get_config():
    return runpy.run_path(str(PRETRAIN))["get_config"]


@pytest.fixture(scope="module")
def tables(get_config):
    """Rows of cells below each heading, without backticks."""
    found = {}
    for line in page(get_config).splitlines():
        if line.startswith("#"):
            heading = line.strip("#` ")
            found[heading] = []
        elif line.startswith("|"):
            # Between columns, but not where a value has the sign itself.
            cells = re.split(r"(?<!\\)\|", line.strip("|"))
            found[heading].append([cell.strip(" `") for cell in cells])
    return {heading: rows for heading, rows in found.items() if rows}


@pytest.fixture(scope="module")
def keys(tables):
    """Rows of all keys."""
    return [row for heading, rows in tables.items() if heading[0].islower() for row in rows[2:]]


def test_the_page_is_up_to_date():
    command = [sys.executable, "-m", "qwen_audio_jax.configuration_page"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*PRESETS, *SETUP_NAMES])
def test_every_key_is_described_once(keys, get_config, name):
    config = from_mapping(get_config(name).to_dict())
    values = flat(to_json(config))
    fixed = flat(to_json(config), FREE_KEYS)
    for path in values:
        (row,) = (row for row in keys if f"{dotted(path)}.".startswith(f"{row[0]}."))
        _, kind, must_be, default, may_change, meaning = row
        assert kind
        assert must_be
        assert default
        assert may_change == ("no" if path in fixed else "yes")
        assert re.search(r"\w{3}", meaning), row
    # Nor is there a key that no configuration has; a mixture's keys are the user's own.
    assert {row[0] for row in keys} == {
        dotted("data/mixture" if path.startswith("data/mixture/") else path) for path in values
    }


def test_groups_have_a_section_each(tables):
    groups = "model data data.wave_augment data.spec_augment optimizer train checkpoint evaluate"
    groups += " mesh wait profile lora preference"
    names = ["config", *(f"config.{group}" for group in groups.split())]
    assert list(tables) == [*names, "Presets", "Topologies"]
    for name in names:
        assert all(key.rpartition(".")[0] == name for key, *_ in tables[name][2:])


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("model.family", ("auto", *FAMILIES)),
        ("model.preset", PRESETS),
        ("model.attention", ("auto", *BACKENDS)),
        ("model.remat", REMAT),
        ("data.conditioning", CONDITIONINGS),
    ],
)
def test_names_that_a_key_may_have_are_those_of_the_code(keys, key, names):
    (row,) = (row for row in keys if row[0] == f"config.{key}")
    assert row[2] == f"one of {', '.join(names)}"


def test_defaults_and_types_are_those_of_tiny(keys):
    by_key = {row[0].removeprefix("config."): [row[1], row[3]] for row in keys}
    assert by_key["data.mixture"] == ["dict[str, float]", "{'synthetic': 1.0}"]
    assert by_key["data.wave_augment.speeds"] == ["tuple[float, ...]", "(1.0,)"]
    assert by_key["model.dtype"] == ["str", "auto"]
    assert by_key["init_from"] == ["str", "''"]
    assert by_key["mesh.fsdp"] == ["int", "-1"]


def test_ranges_are_those_that_are_checked(keys):
    by_key = {row[0].removeprefix("config."): row[2] for row in keys}
    assert by_key["train.steps"] == "a whole number from 0 to 2,147,483,647"
    assert by_key["optimizer.clip_norm"].endswith(", or inf (no clipping)")
    assert by_key["mesh.tensor"].endswith(", or -1 (what the others leave)")
    assert by_key["data.wave_augment.speeds"] == (
        "a tuple, 1 to 100 items, each a number from 0.5 to 2"
    )


def test_presets_and_topologies_are_told_by_what_they_change(tables, get_config):
    head, _, *rows = tables["Presets"]
    assert head == ["key", *PRESETS]
    told = {key: dict(zip(PRESETS, cells, strict=True)) for key, *cells in rows}
    assert told["config.train.steps"]["qwen_audio_7b"] == "500000"
    assert told["config.optimizer.frozen"]["qwen_audio_7b"] == "('^decoder/',)"
    assert "config.optimizer.beta1" not in told
    head, _, *rows = tables["Topologies"]
    assert [row[0] for row in rows] == SETUP_NAMES
    for name, *cells in rows:
        values = flat(get_config(name).to_dict())
        assert cells == [
            str(values[key.removeprefix("config.").replace(".", "/")]) for key in head[1:]
        ]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (TrainConfig, "log_every"),
        (DataConfig, "wave_augment"),
        (RunConfig, "init_from"),
        (RunConfig, "mesh.tensor"),
    ],
)
def test_a_field_without_description_is_named(get_config, monkeypatch, kind, name):
    entry = re.compile(rf"^( *){re.escape(name)}: ", re.MULTILINE)
    assert len(entry.findall(kind.__doc__)) == 1
    monkeypatch.setattr(kind, "__doc__", entry.sub(r"\1other: ", kind.__doc__))
    with pytest.raises(
        ValueError, match=rf"{kind.__module__}\.{kind.__name__}\.{name}: is not described"
    ):
        page(get_config)


def test_descriptions_end_with_their_section():
    class Both:
        """What it is.

        Attributes:
            first, second: one text: for both,
                over two lines.
            third: another.

        And a word at the end.
        """

    class Short:
        """Attributes:
        first: one
            text.
        """

    both = "one text: for both, over two lines."
    assert descriptions(Both) == {"first": both, "second": both, "third": "another."}
    assert descriptions(Short) == {"first": "one text."}


def test_help_names_the_page():
    for module in ("main", "compile_report"):
        command = [sys.executable, "-m", f"qwen_audio_jax.{module}", "--help"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert "docs/configuration.md" in done.stdout
