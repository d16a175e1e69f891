"""Whole runs of `main` in processes of their own: killed and resumed, sharded, refused."""

import dataclasses
import json
import pathlib
import random
import signal
import time

import numpy as np
import pytest
from commands import STEPS, finished, losses, metrics, run, started, wait_for
from conftest import QUICK, write_corpus
from orbax.checkpoint import v1 as ocp

from data_pipelines.records import Corpus
from qwen_audio_jax.monitoring.goodput import EVENTS_FILE, read_events, totals


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_corpus(folder / "tones", train=40)
    write_corpus(folder / "scored", train=40, validation=6)
    return folder


@pytest.fixture(scope="module")
def as_users(tmp_path_factory):
    """For runs that must be equal to the bit: compiled as users' are, and kept where none was."""
    cache = tmp_path_factory.mktemp("cache")
    return {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(cache)}


def checkpoint(workdir, step=STEPS):
    return ocp.load_checkpointables(
        workdir / "checkpoints" / str(step), {"state": None, "data": None}
    )


def compiled_steps(environment):
    """What is kept; programs that took less than a second to compile are not always."""
    cache = pathlib.Path(environment["XDG_CACHE_HOME"])
    return set(cache.glob("qwen_audio_jax/compilation/jit_step-*-cache"))


@dataclasses.dataclass(frozen=True)
class Whole:
    """A run from its first step to its last, with a profile of two steps.

    Attributes:
        workdir: its folder.
        said: what it printed.
        seconds: how long it took.
        programs: compiled steps that were kept by its end.
    """

    workdir: pathlib.Path
    said: str
    seconds: float
    programs: set[pathlib.Path]


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory, as_users):
    workdir, began = tmp_path_factory.mktemp("runs") / "whole", time.time()
    profile = {"profile.start": 3, "profile.steps": 2}
    done = finished(root, workdir, environment=as_users, **profile)
    return Whole(workdir, done.stdout, time.time() - began, compiled_steps(as_users))


@pytest.fixture(scope="module")
def uninterrupted(whole):
    return whole.workdir


def test_a_run_tells_where_its_time_went(whole):
    lines = metrics(whole.workdir)
    for line in lines:
        assert line["data_wait_seconds"] >= 0
        assert 0 < line["goodput"] < 1
        assert line["audio_hours_per_hour"] == line["audio_seconds_per_second"]
    assert [line["step"] for line in lines if "checkpoint_seconds" in line] == [4, 7, 10]
    seconds = totals(read_events(whole.workdir / EVENTS_FILE), STEPS)
    assert all(seconds[kind] > 0 for kind in ("init", "compile", "step", "data_wait", "checkpoint"))
    assert sum(seconds.values()) < whole.seconds
    assert "since the first start: " in whole.said
    assert list((whole.workdir / "profile").rglob("*.xplane.pb"))


def test_killed_and_resumed_is_bit_identical(root, whole, uninterrupted, tmp_path, as_users):
    workdir, kill_after = tmp_path / "killed", random.randint(3, STEPS - 2)
    process = started(root, workdir, environment=as_users)
    wait_for(process, workdir, kill_after)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, f"was over before it could be killed: {errors}"

    finished(root, workdir, environment=as_users)
    assert losses(workdir) == losses(uninterrupted)
    # Both starts have found the step compiled.
    assert whole.programs
    assert compiled_steps(as_users) == whole.programs
    import jax

    one, two = checkpoint(workdir), checkpoint(uninterrupted)
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.slow
def test_eight_devices_train_like_one(root, uninterrupted, tmp_path):
    mesh = {f"mesh.{axis}": 2 for axis in ("replica", "fsdp", "tensor")}
    flags = f"{QUICK} --xla_force_host_platform_device_count=8"
    finished(root, tmp_path / "sharded", environment={"XLA_FLAGS": flags}, **mesh)
    np.testing.assert_allclose(
        losses(tmp_path / "sharded")[:10], losses(uninterrupted)[:10], rtol=0, atol=1e-4
    )


def test_a_run_writes_everything_it_promises_and_learns(root, tmp_path):
    workdir = tmp_path / "run"
    options = {"train.steps": 60, "evaluate.every": 40, "checkpoint.every": 30, "corpus": "scored"}
    options |= {"evaluate.loss_every": 20, "train.log_every": 7}
    done = finished(root, workdir, **options)
    rows = metrics(workdir)
    logged = sorted({*range(7, 61, 7), 20, 40, 60})
    assert [row["step"] for row in rows] == logged
    assert rows[-1]["loss"] < rows[0]["loss"] / 4
    for key in ("tokens_per_second", "audio_seconds_per_second", "model_flops_per_second"):
        assert all(row[key] > 0 for row in rows)
    table = json.loads((workdir / "evaluation.json").read_text())
    row, held_out, of_all = table
    assert row["task"] == held_out["task"] == "instrument_classification"
    assert (row["metric"], row["n"], row["baseline"]) == ("accuracy", 6, 0.5)
    assert row["value"] == 1.0
    assert of_all == held_out | {"task": "all"}
    assert (held_out["metric"], held_out["n"]) == ("loss", 6)
    assert held_out["value"] < held_out["baseline"] / 2
    measured = {row["step"]: row for row in rows if "validation_loss" in row}
    assert list(measured) == [20, 40, 60]
    assert measured[60]["validation_loss"] == held_out["value"]
    assert measured[60]["validation_loss_another_clip"] == held_out["baseline"]
    for shown in ("instrument_classification", "Loss per token"):
        assert shown in done.stdout
    assert "; held-out loss: " in (workdir / "report.html").read_text()
    for name in ("config.json", "report.html", "tokenizer/tokenizer.model", "checkpoints/60"):
        assert (workdir / name).exists()
    assert list((workdir / "tensorboard").glob("events*"))

    names = (
        *("evaluation.json", "answers.jsonl"),
        *("evaluation/plan.json", "evaluation/answers-00000-of-00001.jsonl"),
    )
    kept = {name: (workdir / name).read_text() for name in names}
    again = finished(root, workdir, **options)
    assert "steps: 60 of 60 done" in again.stdout
    assert {name: (workdir / name).read_text() for name in kept} == kept
    assert metrics(workdir) == rows
    other = run(root, workdir, **options | {"train.steps": 61})
    assert other.returncode == 1
    assert "holds a run of another configuration (config.train.steps was 60" in other.stderr


def test_starts_from_another_run(root, uninterrupted, tmp_path):
    workdir = tmp_path / "tuned"
    finished(root, workdir, **{"init_from": uninterrupted, "train.steps": 1})
    before, after = (losses(folder) for folder in (uninterrupted, workdir))
    assert after[0] < before[0] / 2
    options = {"init_from": uninterrupted, "model.family": "qwen_audio"}
    other = run(root, tmp_path / "other", **options)
    assert other.returncode == 1
    assert "is of family qwen2_audio; add --config.model.family=qwen2_audio" in other.stderr
    assert "Traceback" not in other.stderr


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.stepz", "3", "stepz"),
        ("data.mixture", "{'nothing': 1.0}", "nothing: no corpus there; build one with"),
        ("data.mixture", "{'tones': 0}", "all weights are 0"),
        pytest.param(
            *("data.shapes", "((4, 8, 8),)", "it is larger than every row shape"),
            marks=pytest.mark.slow,
        ),
        ("mesh.fsdp", "3", "does not make 1 devices"),
        (
            "model.family",
            "qwen3",
            "config.model.family: must be one of auto, qwen_audio, qwen2_audio, not 'qwen3'",
        ),
        ("init_from", "nowhere", "config.init_from: nowhere/model.json: is missing"),
    ],
)
def test_mistakes_are_one_sentence(root, tmp_path, key, value, message):
    done = run(root, tmp_path / "run", **{key: value})
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_terminated_run_saves_and_goes_on(root, uninterrupted, tmp_path, as_users):
    workdir = tmp_path / "stopped"
    process = started(root, workdir, environment=as_users, **{"checkpoint.every": 100})
    wait_for(process, workdir, 2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "stopped by SIGTERM; the same command goes on from here" in errors
    assert len(list((workdir / "checkpoints").glob("[0-9]*"))) == 1
    finished(root, workdir, environment=as_users, **{"checkpoint.every": 100})
    assert losses(workdir) == losses(uninterrupted)


def test_losses_that_are_no_numbers_stop_the_run_before_it_is_saved(root, tmp_path):
    workdir = tmp_path / "nan"
    # Each step takes a matrix's numbers a hundred times away from 0.
    far = {"learning_rate": 10, "weight_decay": 10, "warmup_steps": 1}
    options = {f"optimizer.{key}": value for key, value in far.items()}
    done = run(root, workdir, **options, **{"checkpoint.every": 100})
    assert done.returncode == 1
    assert "4 such steps in a row (config.train.max_skipped is 3)" in done.stderr
    # What the progress bar last shows.
    shown = losses(workdir)
    shares = 0.95 ** np.arange(len(shown))[::-1]
    assert f"loss {shares @ shown / shares.sum():.3f}, " in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((workdir / "checkpoints").glob("[0-9]*"))
    rows = [json.loads(line) for line in (workdir / "skipped.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [len(shown) + number for number in (1, 2, 3, 4)]
    index = Corpus(root / "tones").index("train")
    assert all(set(row["ids"]) <= {record.id for record in index} for row in rows)
    assert all(row["ids"] for row in rows)
