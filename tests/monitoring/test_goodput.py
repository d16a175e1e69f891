"""Where a run's time goes, over restarts and crashes; the profile."""

import json
import os
import subprocess
import sys

import pytest

from qwen_audio_jax.monitoring import goodput
from qwen_audio_jax.monitoring.goodput import EVENTS_FILE, Clock, read_events, totals
from qwen_audio_jax.run_config import ProfileConfig
from qwen_audio_jax.training import profile_window
from qwen_audio_jax.training.profile_window import ProfileWindow


def start(at, step):
    return {"time": at, "event": "start", "step": step}


def lap(at, done, **seconds):
    return {"time": at, "event": "time", "step": done, "seconds": seconds}


def nonzero(seconds):
    return {kind: pytest.approx(value) for kind, value in seconds.items() if value}


def test_time_is_added_up_by_kind():
    events = [start(0, 0), lap(9, 10, init=2.0, step=6.0, compile=1.0), lap(12, 20, step=3.0)]
    assert nonzero(totals(events, 20)) == {"init": 2.0, "step": 9.0, "compile": 1.0}


def test_steps_that_are_done_again_count_once():
    # Killed after step 20, when the last checkpoint was of step 15; five seconds later it goes on.
    events = [start(0, 0), lap(10, 10, step=10.0), lap(20, 20, step=8.0, data_wait=2.0)]
    assert nonzero(totals(events, 15)) == {"step": 14.0, "redone": 4.0, "data_wait": 2.0}
    events += [start(25, 15), lap(30, 20, init=1.0, step=4.0), lap(40, 30, step=10.0)]
    whole = totals(events, 30)
    assert nonzero(whole) == {
        "step": 28.0,
        "redone": 4.0,
        "data_wait": 2.0,
        "init": 1.0,
        "down": 5.0,
    }
    assert sum(whole.values()) == 40


def test_a_start_from_before_an_earlier_one_loses_that_one_too():
    events = [start(0, 0), lap(10, 10, step=10.0), start(10, 5), lap(20, 15, step=10.0)]
    assert totals(events, 0)["step"] == 0
    assert totals(events, 0)["redone"] == 20
    assert totals(events, 15)["step"] == 15


class FakeTime:
    """time.time and time.perf_counter that move only when told."""

    def __init__(self):
        self.now = 1000.0

    def time(self):
        return self.now

    def perf_counter(self):
        return self.now - 900.0


@pytest.fixture
def fake(monkeypatch):
    fake = FakeTime()
    monkeypatch.setattr(goodput, "time", fake)
    return fake


def test_a_clock_divides_all_of_the_time(fake, tmp_path):
    clock = Clock(started=fake.now - 3)
    fake.now += 1
    clock.begin(tmp_path, 0, write=True)
    with clock.dispatch((4, 64)):
        fake.now += 5
    with clock.dispatch((4, 64)):
        fake.now += 1
    with clock.spend("data_wait"):
        fake.now += 2
    fake.now += 4
    clock.lap(1)
    values = clock.values()
    assert values == {"data_wait_seconds": 2.0, "goodput": pytest.approx(5 / 16)}
    with clock.spend("checkpoint"):
        fake.now += 3
        with clock.spend("evaluation"):
            fake.now += 1
    clock.lap(1)
    fake.now += 2
    clock.lap(2)
    assert clock.values() == {
        "data_wait_seconds": 0.0,
        "checkpoint_seconds": 3.0,
        "goodput": pytest.approx(7 / 22),
    }
    clock.close()
    assert "step 31.8%" in clock.summary()
    seconds = totals(read_events(tmp_path / EVENTS_FILE), 2)
    assert nonzero(seconds) == {
        "init": 4,
        "compile": 5,
        "step": 7,
        "data_wait": 2,
        "checkpoint": 3,
        "evaluation": 1,
    }
    assert sum(seconds.values()) == pytest.approx(22)


def test_what_is_spent_is_all_but_what_was_lost(fake, tmp_path):
    events = [start(0, 0), lap(10, 10, init=3.0, step=7.0), lap(18, 20, step=6.0, evaluation=2.0)]
    (tmp_path / EVENTS_FILE).write_text("".join(json.dumps(one) + "\n" for one in events))
    clock = Clock(started=fake.now)
    fake.now += 5
    assert clock.spent() == 5
    # It goes on from step 15: half of the second lap's steps are lost, its evaluation is not.
    clock.begin(tmp_path, 15, write=False)
    assert clock.spent() == 3 + 7 + 6 / 2 + 2 + 5
    fake.now += 2
    with clock.spend("checkpoint"):
        fake.now += 1
        assert clock.spent() == 23
    clock.lap(16)
    assert clock.spent() == 23


def test_goodput_goes_on_over_a_restart(fake, tmp_path):
    clock = Clock()
    clock.begin(tmp_path, 0, write=True)
    for step in (1, 2, 3, 4):
        fake.now += 10
        clock.lap(step)
    # Killed while it wrote a line; step 2 was the last one saved.
    with (tmp_path / EVENTS_FILE).open("a") as file:
        file.write('{"time": 1045.0, "event": "ti')
    fake.now += 20
    clock = Clock()
    fake.now += 5
    clock.begin(tmp_path, 2, write=True)
    fake.now += 15
    clock.lap(3)
    assert clock.values()["goodput"] == pytest.approx(35 / 80)
    assert clock.summary() == (
        "80 s since the first start: step 43.8%, init 6.2%, redone 25.0%, down 25.0%"
    )
    events = read_events(tmp_path / EVENTS_FILE)
    assert [event["event"] for event in events] == ["start", *["time"] * 4, "start", "time"]


def test_other_processes_write_nothing(tmp_path):
    clock = Clock()
    clock.begin(tmp_path, 0, write=False)
    clock.lap(1)
    clock.close()
    assert not list(tmp_path.iterdir())


def test_the_profile_is_of_the_window_alone(monkeypatch, tmp_path):
    import jax

    calls = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: calls.append(folder))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
    monkeypatch.setattr(profile_window, "can_profile", lambda: True)
    window = ProfileWindow(ProfileConfig(start=3, steps=2), tmp_path)
    for step in range(1, 8):
        with window.step(step):
            calls.append(step)
        window.after(step, ())
    assert calls == [1, 2, 3, tmp_path / "profile", 4, 5, "stop", 6, 7]
    calls.clear()
    window = ProfileWindow(ProfileConfig(start=3, steps=0), tmp_path)
    for step in range(1, 8):
        with window.step(step):
            window.after(step, ())
    assert calls == []


@pytest.mark.parametrize(
    ("backend", "loaded", "status", "taken"),
    [
        ("cpu", False, None, True),  # the library of TPUs is not there
        ("tpu", True, None, True),
        ("cpu", True, 0, True),
        ("cpu", True, -11, False),
    ],
)
def test_a_profile_that_would_end_the_run_is_left_out(
    monkeypatch, caplog, tmp_path, backend, loaded, status, taken
):
    tried = []

    def run(command, **_):
        tried.append(command)
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(profile_window.jax, "default_backend", lambda: backend)
    monkeypatch.setattr(profile_window.xla_client, "pjrt_plugin_loaded", lambda name: loaded)
    monkeypatch.setattr(profile_window.subprocess, "run", run)
    begun = []
    monkeypatch.setattr(profile_window.jax.profiler, "start_trace", begun.append)
    window = ProfileWindow(ProfileConfig(start=0, steps=1), tmp_path)
    with window.step(1):
        pass
    assert bool(begun) == taken
    assert ("config.profile: left out" in caplog.text) == (not taken)
    assert bool(tried) == (status is not None)


def test_the_trial_of_a_profile_begins_one(tmp_path):
    command = [sys.executable, "-c", profile_window.TRIAL, tmp_path]
    assert subprocess.run(command, env=os.environ | {"JAX_PLATFORMS": "cpu"}).returncode == 0
