"""The progress bar shows a smoothed loss; metrics.jsonl and TensorBoard have the one that was."""

import json
import re
import struct
import types

import numpy as np
import pytest
from conftest import tiny_config
from tensorboardX.proto.event_pb2 import Event

from qwen_audio_jax.monitoring.flops import Counts
from qwen_audio_jax.monitoring.run_log import RunLog, read_metrics
from qwen_audio_jax.training import loop

LOSSES = [4.0, 2.0, 1.0]
# By hand, with a decay of 0.95: 4; (0.95 x 4 + 2) / 1.95; (0.9025 x 4 + 0.95 x 2 + 1) / 2.8525.
SHOWN = ["4.000", "2.974", "2.282"]


@pytest.fixture
def shown(capsys):
    """A function that closes a log and returns the loss that its bar shows then."""

    def close(log):
        log.close()
        return re.findall(r"loss (\S+),", capsys.readouterr().err)[-1]

    return close


def write(log, losses, first=1):
    for step, loss in enumerate(losses, first):
        log.write(step, {"loss": loss, "gradient_norm": 1.0})


def tensorboard_values(workdir, tag):
    """What event files have, record by record: a length and its checksum, the data and its."""
    found = []
    for path in sorted((workdir / "tensorboard").glob("events*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            values = Event.FromString(data[12 : 12 + length]).summary.value
            found += [value.simple_value for value in values if value.tag == tag]
            data = data[16 + length :]
    return found


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_bar_shows_a_weighted_average_of_all_losses(tmp_path, shown, steps):
    log = RunLog(tmp_path, 0, 3)
    write(log, LOSSES[:steps])
    assert shown(log) == SHOWN[steps - 1]


def test_files_have_the_losses_as_they_were(tmp_path, shown):
    losses = np.random.default_rng(0).uniform(0, 9, 50).tolist()
    log = RunLog(tmp_path, 0, 50)
    write(log, losses)
    assert shown(log) != f"{losses[-1]:.3f}"
    assert [row["loss"] for row in read_metrics(tmp_path)] == losses
    assert tensorboard_values(tmp_path, "loss") == np.float32(losses).tolist()


def test_a_resumed_run_shows_what_one_without_a_break_would(tmp_path, shown):
    log = RunLog(tmp_path, 0, 4)
    write(log, [*LOSSES[:2], 99.0, 99.0])  # after the last checkpoint: done again below
    log.close()
    before = (tmp_path / "metrics.jsonl").read_text().splitlines()[:2]
    (tmp_path / "metrics.jsonl").open("a").write('{"step": 5, "lo')
    log = RunLog(tmp_path, 2, 4)
    assert (tmp_path / "metrics.jsonl").read_text().splitlines() == before
    write(log, LOSSES[2:], first=3)
    assert shown(log) == SHOWN[2]
    assert [row["loss"] for row in read_metrics(tmp_path)] == LOSSES


def test_what_is_found_out_later_joins_the_line_of_its_step(tmp_path):
    log = RunLog(tmp_path, 0, 4)
    write(log, LOSSES[:2])
    before = read_metrics(tmp_path)
    log.add(2, {"validation_loss": 2.125, "validation_loss_another_clip": 2.5})
    log.add(1, {"validation_loss": 9.0})  # not the last line
    held_out = {"validation_loss": 2.125, "validation_loss_another_clip": 2.5}
    assert read_metrics(tmp_path) == [before[0], before[1] | held_out]
    write(log, LOSSES[2:], first=3)
    assert [row["loss"] for row in read_metrics(tmp_path)] == LOSSES
    log.close()
    assert tensorboard_values(tmp_path, "validation_loss") == [2.125, 9.0]
    # A run that is over is evaluated again when it is started again.
    log = RunLog(tmp_path, 3, 3)
    for value in (1.0625, 1.5):
        log.add(3, {"validation_loss": value})
    log.close()
    rows = read_metrics(tmp_path)
    assert [row.get("validation_loss") for row in rows] == [None, 2.125, 1.5]


def test_without_a_line_there_is_nothing_to_add_to(tmp_path):
    log = RunLog(tmp_path, 0, 4)
    log.add(1, {"validation_loss": 1.0})
    assert read_metrics(tmp_path) == []
    log.close()


def run(workdir, log_every):
    """As much of a Run as `log_step` asks for."""
    return types.SimpleNamespace(
        workdir=workdir,
        model=tiny_config("qwen2_audio"),
        data=types.SimpleNamespace(batch_ids=lambda slot: ["a record"]),
        validation=None,
        clock=types.SimpleNamespace(lap=lambda step: None, values=dict),
        duration=types.SimpleNamespace(left=lambda clock: None),
        config=types.SimpleNamespace(
            optimizer=types.SimpleNamespace(frozen=(), train_new_tokens=True),
            train=types.SimpleNamespace(max_skipped=3, log_every=log_every),
        ),
    )


@pytest.mark.parametrize("log_every", [1, 3])
def test_only_logged_and_finite_losses_enter_the_average(tmp_path, shown, log_every):
    none = dict.fromkeys(Counts.__dataclass_fields__, 0)
    log = RunLog(tmp_path, 0, 5 * log_every)

    def one(step, loss, norm):
        metrics = {"loss": loss, "gradient_norm": norm, "slot": step, "useful": none}
        return loop.log_step(
            run(tmp_path, log_every), log, step, metrics | {"counts": np.zeros(2, np.int32)}
        )

    skipped = []
    turns = [(4.0, 1.0), (float("nan"), 1.0), (2.0, 1.0), (7.0, float("inf")), (1.0, 1.0)]
    for turn, (loss, norm) in enumerate(turns):
        for step in range(turn * log_every + 1, (turn + 1) * log_every):
            one(step, 50.0, 1.0)  # not its turn
        skipped.append(one((turn + 1) * log_every, loss, norm))
    assert skipped == [False, True, False, True, False]
    assert shown(log) == SHOWN[2]
    assert [row["loss"] for row in read_metrics(tmp_path)] == LOSSES
    rows = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2 * log_every, 4 * log_every]


def test_the_bar_shows_the_time_left_where_it_is_known(tmp_path, shown):
    log = RunLog(tmp_path, 0, None)
    log.count(Counts(**dict.fromkeys(Counts.__dataclass_fields__, 0)), 0.0, 0)
    log.write(1, {"loss": 1.0}, left=3725.0)
    assert log._bar.postfix.endswith("audio-s/s, 1:02:05 left")
    assert log._bar.total is None
    log.write(2, {"loss": 1.0})
    assert log._bar.postfix.endswith("audio-s/s")
    log.close()
