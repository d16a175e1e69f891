"""Garbage in a key of the configuration is refused in one sentence, whatever the key."""

import importlib.util
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "fuzz_configurations.py"


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz_configurations", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_every_key_with_every_kind_of_garbage(fuzz):
    keys = fuzz.keys()
    assert {"mesh", "mesh.tensor", "data.mixture", "data.mixture.synthetic", "train"} < set(keys)
    assert len(fuzz.GARBAGE) >= 20
    accepted = set()
    for number, key in enumerate(keys):
        for kind, values in fuzz.GARBAGE.items():
            case = fuzz.Case(((key, kind, values[number % len(values)]),))
            outcome, _ = fuzz.parse(case)
            assert outcome.became in ("accepted", "refused"), (case.flags, outcome.said)
            if outcome.became == "accepted":
                accepted.add((key, kind))
    taken = {kind: {key for key, of in accepted if of == kind} for kind in fuzz.GARBAGE}
    folders = {"compilation_cache", "data.root", "init_from"}
    folders |= {"evaluate.data", "evaluate.beside"}
    patterns = {"optimizer.frozen", "lora.targets", "lora.train"}
    # A pattern that is found nowhere is only refused when there are parameters.
    for kind in ("text", "None", "NaN", "code", "broken", "path"):
        assert taken[kind] <= folders | patterns, kind
    switches = {"answers", "before", "controls", "loss"}
    switches = {f"evaluate.{name}" for name in switches} | {"data.learn_newline"}
    switches |= {"lora.rslora", "optimizer.train_new_tokens"}
    assert taken["truth"] <= folders | patterns | switches
    for kind in ("set", "nested deep", "half a character"):
        assert taken[kind] <= folders, kind
    # Empty ones, and a mixture of a corpus that may be there.
    mappings = {"data.tasks", "data.languages", "data.prompts", "data.mixture", "optimizer.rates"}
    mappings |= {"lora.rank_pattern", "lora.alpha_pattern"}
    assert taken["mapping"] <= folders | mappings
    assert taken["infinity"] <= folders | patterns | {"optimizer.clip_norm"}
    assert {key for key in taken["negative"] if key not in folders} <= {"mesh.fsdp"}


def test_what_is_no_sentence_is_told(fuzz):
    assert fuzz._refused("error: config.train.steps: must be a number\n").became == "refused"
    for said in ("", "config.a: no\n", "error: config.a: no\nerror: b\n", "error: config.a: \0\n"):
        assert fuzz._refused(said).became == "traceback"


@pytest.mark.slow
def test_the_script_runs():
    command = [sys.executable, SCRIPT, "--count=6", "--commands=1", "--seed=11"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "up to the first step" in done.stdout
    assert "whole command" in done.stdout
