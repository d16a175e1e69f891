"""What is told while a model answers, and at the end."""

import pytest

from qwen_audio_jax.evaluation import progress
from qwen_audio_jax.evaluation.answer_files import Answered
from qwen_audio_jax.evaluation.progress import Progress, answering


def test_rtfx_is_of_the_time_without_compiling():
    assert Progress(120.0).rtfx(60) == 2.0
    assert Progress(120.0, 3, 20.0).rtfx(60) == 3.0


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by ten seconds an answer."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def told(capsys, clock, some, questions=5):
    def answers():
        for number, one in enumerate(some):
            clock[0] += 10
            yield one, Answered(str(number), "", "stop")

    given = list(answering(answers(), questions, len(some)))
    assert [one.key for one in given] == [str(n) for n in range(len(some))]
    return capsys.readouterr().err


def test_what_was_done_before_is_added():
    before = Progress(10.0, 2, 3.0, (("frames", 0.5),))
    after = Progress(5.0, 1, 0.5, (("frames", 0.25),)).after(before)
    assert after == Progress(15.0, 3, 3.5, (("frames", 0.25),))


def test_the_end_tells_all_of_it(capsys, clock):
    shares = (("the prompts' tokens", 0.125), ("the clips' frames", 0.3))
    some = [Progress(30.0, 1, 2.0), Progress(90.0, 4, 5.0, shares)]
    assert told(capsys, clock, some).splitlines()[-1] == (
        "answered 2 questions in 20.0 s, of which compiling took 5.0 s (4 shapes): "
        "90.0 s of sound, RTFx 6.0; 12% of the prompts' tokens and 30% of the clips' frames were "
        "padding"
    )


def test_of_an_endpoint_only_what_is_known(capsys, clock):
    line = told(capsys, clock, [Progress(30.0)]).splitlines()[-1]
    assert line == "answered 1 question in 10.0 s: 30.0 s of sound, RTFx 3.0"


def test_without_a_terminal_there_is_a_line_now_and_then(capsys):
    """Not one an answer: the first and the last, and one every ten seconds."""
    some = [(Progress(float(n), 1, 0.0, (("tokens", 0.5),)), Answered("", "", "stop"))
            for n in range(200)]  # fmt: skip
    list(answering(iter(some), 200, 200))
    written = capsys.readouterr().err
    assert "\r" not in written
    first, last, _ = written.splitlines()
    assert first.startswith("answering:   0%|")
    assert "answering: 100%|" in last
    assert "RTFx" in last
    assert "50% of tokens padding" in last
