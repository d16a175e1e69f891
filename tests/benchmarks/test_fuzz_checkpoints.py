"""A few damaged folders, of the thousand that the script converts."""

import collections
import importlib
import pathlib

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"
RIGHT = {"imported", "exported", "refused"}


@pytest.fixture
def fuzz(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("fuzz_checkpoints")


@pytest.mark.slow
def test_they_are_converted_or_refused(tmp_path, fuzz):
    fuzz.make_all_seeds(tmp_path / "seeds")
    counts = collections.Counter()
    for number in range(40):
        (tmp_path / str(number)).mkdir()
        outcome = fuzz.run_case(number, tmp_path / "seeds", tmp_path / str(number), compare=False)
        assert set(outcome.ends) <= RIGHT, outcome.said
        counts.update(outcome.ends)
    assert all(counts[end] > 2 for end in RIGHT)


def test_what_is_wrong_is_counted(tmp_path, fuzz, monkeypatch):
    """The harness sees a traceback, chatter, and what is left behind."""
    fuzz.make_all_seeds(tmp_path / "seeds")

    def outcome(name, main):
        (tmp_path / name).mkdir()
        monkeypatch.setattr("qwen_audio_jax.convert.main", main)
        return fuzz.run_case(0, tmp_path / "seeds", tmp_path / name, compare=False).ends

    def raises(_):
        raise AttributeError("a list has no get")

    def leaves(arguments):
        pathlib.Path(arguments[2].removeprefix("--out=") + ".unfinished-1").mkdir()
        return 1

    assert outcome("a", raises) == ("tracebacks",)
    assert outcome("b", lambda _: 1) == ("refused", "said more than a sentence")
    assert "left something behind" in outcome("c", leaves)
