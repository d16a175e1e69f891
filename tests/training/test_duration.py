"""A run ends by steps, epochs or hours; and by hours it goes on where its time stood."""

import dataclasses
import json
import os
import signal

import jax
import numpy as np
import pytest
from conftest import changed, pretrain_values, write_corpus

from data_pipelines.packing import PackPlan, RowShape
from qwen_audio_jax.monitoring.goodput import Clock
from qwen_audio_jax.run_config import ConfigError, from_mapping
from qwen_audio_jax.training import loop
from qwen_audio_jax.training.duration import Duration, duration_of


def train_config(**ends):
    values = pretrain_values()
    values["train"] |= {"steps": 0} | ends
    return from_mapping(values).train


def plan_of(records):
    return PackPlan({"a": np.full((records, 2), 8)}, {"a": 1.0}, [RowShape(1, 16, 16)], seed=0)


class Ticking(Clock):
    """A clock that is a second later whenever it is asked, and stops the run at one of them."""

    def __init__(self, now=0, stop_at=None):
        super().__init__()
        self.now, self.stop_at = now, stop_at

    def spent(self):
        self.now += 1
        if self.now == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return self.now


def test_steps_end_as_they_are_given():
    duration = duration_of(train_config(steps=7), plan_of(8))
    assert duration == Duration(7)
    assert [duration.over(step, 0.0) for step in (0, 6, 7)] == [False, False, True]
    assert (duration.count(Ticking()), duration.progress(0.5, None)) == (0, ())
    assert duration.told(3, Ticking()) == "steps: 3 of 7 done"


@pytest.mark.parametrize(("epochs", "steps"), [(1, 4), (2.5, 10), (0.1, 1)])
def test_epochs_become_steps(epochs, steps):
    # Two records a row, a row a batch.
    duration = duration_of(train_config(epochs=epochs), plan_of(8))
    assert duration.steps == steps
    of = "1 epoch of" if epochs == 1 else f"{epochs:g} epochs of"
    assert duration.told(0, Ticking()) == f"steps: 0 of {steps} done ({of} the mixture)"


def test_epochs_by_estimate_say_so_and_too_many_are_refused():
    plan = plan_of(60_000)
    plan._counts = dict.fromkeys(range(10), 8192)  # as planning would find
    told = duration_of(train_config(epochs=2.0), plan).told(0, Ticking())
    assert told == "steps: 0 of 60000 done (about 2 epochs of the mixture, by its first windows)"
    with pytest.raises(ConfigError, match=r"config\.train\.epochs: 1e\+06 epochs of 60,000 rec"):
        duration_of(train_config(epochs=1e6), plan)


def test_process_0_decides_how_much_time_is_spent(monkeypatch):
    duration = duration_of(train_config(hours=0.5), plan_of(8))
    first = duration.count(Ticking(899))
    assert duration.share_of(first) == 0.5
    assert duration.share_of(duration.count(Ticking(10**9))) == 1
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    assert duration.count(Ticking(5)) == 0
    assert not duration.over(0, 1.0)  # one step in any case
    assert duration.over(1, 1.0)
    assert not duration.over(10**9, 0.999)
    assert duration.left(Ticking(1799)) == 0
    assert duration.told(3, Ticking(899)) == "time: 15:00 of 30:00 spent, 3 steps done"


@pytest.fixture
def config(tmp_path):
    write_corpus(tmp_path / "data" / "tones", train=20)
    values = pretrain_values()
    values["data"] |= {
        "root": str(tmp_path / "data"),
        "mixture": {"tones": 1.0},
        "shapes": ((2, 64, 128),),
    }
    values["train"] |= {"steps": 0, "hours": 30 / 3600}
    return from_mapping(changed(values, "optimizer.warmup_steps", 3))


@pytest.mark.slow
def test_a_run_by_time_stops_goes_on_and_ends(config, tmp_path, monkeypatch, capsys, caplog):
    traced, make_step = [], loop.make_step

    def counting(*arguments):
        step = make_step(*arguments)

        def counted(state, batch, share):
            traced.append(share)
            return step(state, batch, share)

        return counted

    monkeypatch.setattr(loop, "make_step", counting)
    workdir = tmp_path / "run"

    def rows():
        return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]

    clock = Ticking(stop_at=14)
    loop.run(config, workdir, clock=clock)
    assert "stopped by SIGTERM" in caplog.text
    stopped_after = rows()[-1]["step"]
    assert not (workdir / "report.html").exists()

    spent = clock.now + 1
    clock = Ticking(now=clock.now)
    loop.run(config, workdir, clock=clock)
    assert f"time: 00:{spent} of 00:30 spent, {stopped_after} steps done" in capsys.readouterr().out
    assert (workdir / "report.html").exists()
    assert len(traced) == 2  # once a start, whatever the share
    shares = [row["time_share"] for row in rows()]
    assert [row["step"] for row in rows()] == list(range(1, len(shares) + 1))
    assert len(shares) > stopped_after > 3
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.1
    assert shares[-1] < 1 <= clock.now / 30
    assert sorted(int(path.name) for path in (workdir / "checkpoints").glob("[0-9]*"))[-1] == len(
        shares
    )

    loop.run(config, workdir, clock=Ticking(now=clock.now))  # it is over
    assert len(rows()) == len(shares)


def test_time_that_is_over_at_once_leaves_one_step(config, tmp_path, caplog):
    write_corpus(tmp_path / "split" / "tones", train=20, validation=3)
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, root=str(tmp_path / "split")),
        train=dataclasses.replace(config.train, log_every=50),
    )
    loop.run(config, tmp_path / "run", clock=Ticking(now=31))
    # The last step has a line, with what was found out after it.
    (line,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert "validation_loss" in json.loads(line)
    assert "config.train.hours: 0.00833333 hours were over before the first step" in caplog.text
    assert (tmp_path / "run" / "checkpoints" / "1").is_dir()
    assert not (tmp_path / "run" / "checkpoints" / "2").exists()
