"""A miniature of every published list, answered and scored by one command."""

import json

import published_lists
import pytest
import tiny_models

from qwen_audio_jax.evaluation import options, stages
from qwen_audio_jax.evaluation.benchmarks import FORMS

OPTIONS = options.from_mapping(
    {
        "limit": 0,
        "control_limit": 0,
        "slots": 4,
        "context": 4096,
        "max_new_tokens": 8,
        "protocols": ("plain",),
        "examples": 3,
        "draws": 20,
        "confidence": 0.95,
        "seed": 0,
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An evaluation of all of them."""
    root = tmp_path_factory.mktemp("benchmarks")
    named = [(name, write(root / name)) for name, write in published_lists.LISTS.items()]
    made = root / "evaluation"
    model = tiny_models.write_model(root / "tiny")
    stages.answer(made, stages.Who(str(model)), named, OPTIONS)
    stages.score(made, OPTIONS)
    return made


def read(folder, name):
    return json.loads((folder / name).read_text())


def test_all_that_was_asked_is_scored_failed_or_left_out(folder):
    told = read(folder, "summary.json")["benchmarks"]
    assert {one["form"] for one in told} == FORMS.keys() - {"corpus"}
    rows = read(folder, "evaluation.json")
    for one in told:
        assert one["asked"] == one["answered"] + one["failed"] + one["left_out"]
        accounts = one["scored"], one["unreadable"], one["failed"], one["left_out"]
        assert one["asked"] == sum(accounts)
        of = [row for row in rows if row["benchmark"] == one["name"]]
        assert of
        for row in of:
            accounts = row["scored"], row["unreadable"], row["failed"], row["left_out"]
            assert row["asked"] == sum(accounts)
        whole = {row["task"]: row for row in of if "/" not in row["metric"]}
        unclaimed = one["left_out"] if len(whole) > 1 else 0
        assert sum(row["asked"] for row in whole.values()) == one["asked"] - unclaimed
        assert sum(row["n"] for row in whole.values()) == one["answered"]
        assert sum(one["reasons"].values()) == one["failed"] + one["left_out"]


def test_choices_have_the_makers_value_beside_the_strict_one(folder):
    rows = {
        (row["benchmark"], row["metric"]): row
        for row in read(folder, "evaluation.json")
        if row["metric"].startswith("accuracy")
    }
    for name, rule in (
        ("air_foundation", "air_official"),
        ("mmau", "token_set"),
        ("mmsu", "mmsu_official"),
    ):
        ours, theirs = rows[name, "accuracy"], rows[name, f"accuracy/{rule}"]
        assert ours["value"] == ours["strict"]
        assert theirs["value"] == theirs["official"]
        assert ours["n"] == theirs["n"] > 0
        assert 0 <= theirs["unreadable"] <= theirs["n"]


def test_what_other_programs_score_has_their_files_and_no_score(folder):
    rows = [row for row in read(folder, "evaluation.json") if row["benchmark"] == "air_chat"]
    assert [(row["metric"], row["value"]) for row in rows] == [("scored_elsewhere", None)]
    files = {path.name for path in (folder / "official").iterdir()}
    assert {"air_foundation.jsonl", "air_chat.jsonl", "mmau.json", "mmsu.jsonl"} <= files
