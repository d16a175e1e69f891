"""Two real processes tune on pairs as one does: the references, the losses, what is answered."""

import json
import shutil

import numpy as np
import pytest
import tiny_models
from paired import write_pairs
from processes import assert_same, rows, run

from qwen_audio_jax import convert
from qwen_audio_jax.training.stored_references import FACTS_FILE, VALUES_FILE

pytestmark = pytest.mark.slow

RECORDS, VALIDATION, STEPS = 20, 6, 4


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the corpus data/pairs, and the checkpoint start."""
    place = tmp_path_factory.mktemp("place")
    write_pairs(place / "data" / "pairs", RECORDS, VALIDATION)
    source = tiny_models.write_model(place / "original")
    assert convert.main(["import", f"--source={source}", f"--out={place / 'start'}"]) == 0
    return place


def tuned(count, place, name):
    workdir = place / "runs" / name
    options = {
        "init_from": place / "start",
        "data.shapes": "((4, 512, 256),)",
        "train.steps": STEPS,
        "checkpoint.every": 2,
        "preference.reference": "stored",
        "evaluate.beside": "()",
        "evaluate.max_new_tokens": 16,
    }
    run(count, place / "data", workdir, corpus="pairs", file="dpo", **options)
    return workdir


@pytest.fixture(scope="module")
def one(place):
    return tuned(1, place, "one")


@pytest.fixture(scope="module")
def two(place):
    return tuned(2, place, "two")


def references(workdir):
    """Of each record its two, in the order of their numbers."""
    lines = np.fromfile(workdir / VALUES_FILE, "<i4,<i8,<2f4,<u4")
    assert np.all(lines["f0"] == 0)
    return lines[np.argsort(lines["f1"])]


def test_each_record_is_compared_with_the_same(one, two):
    wanted, found = references(one), references(two)
    assert list(found["f1"]) == list(wanted["f1"]) == list(range(RECORDS))
    np.testing.assert_allclose(found["f2"], wanted["f2"], rtol=1e-6)
    facts = [json.loads((workdir / FACTS_FILE).read_text()) for workdir in (one, two)]
    assert facts[0] == facts[1]


def test_they_learn_the_same(one, two):
    assert_same(one, two)
    for ours, wanted in zip(rows(two), rows(one), strict=True):
        for name in ("margin", "reward_chosen", "log_probability_rejected", "tokens_chosen"):
            assert ours[name] == pytest.approx(wanted[name], abs=1e-4), name


def test_they_are_evaluated_alike_before_and_after(one, two):
    """Each process answers its share."""
    tables = [json.loads((workdir / "evaluation.json").read_text()) for workdir in (one, two)]
    assert tables[0] == tables[1]
    whole = next(row for row in tables[0] if row["metric"] == "accuracy")
    assert (whole["task"], whole["n"]) == ("preference", VALIDATION)
    assert "before" in whole
    shares = [rows(two, f"evaluation/answers-0000{n}-of-00002.jsonl") for n in (0, 1)]
    (alone,) = [rows(one, "evaluation/answers-00000-of-00001.jsonl")]
    assert [len(share) for share in shares] == [len(alone) / 2] * 2
    texts = [sorted(row["text"] for row in some) for some in (shares[0] + shares[1], alone)]
    assert texts[0] == texts[1]


def test_one_process_goes_on_from_two(place, one, two):
    """It takes the references that are there, and needs no others."""
    workdir = place / "runs" / "resumed"
    shutil.copytree(two, workdir)
    shutil.rmtree(workdir / "checkpoints" / str(STEPS))
    before = (workdir / VALUES_FILE).read_bytes()
    tuned(1, place, "resumed")
    assert (workdir / VALUES_FILE).read_bytes() == before
    assert_same(one, workdir)
