"""A bar in a terminal, and lines elsewhere."""

import io

import pytest

from qwen_audio_jax.monitoring.progress_bar import bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_in_a_terminal_the_bar_goes_when_it_has_ended(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    with bar("answering", 10, done=4) as shown:
        shown.set_postfix_str("RTFx 2.0", refresh=False)
        shown.update(6)
        shown.refresh()
    assert "10/10" in screen.getvalue()
    assert screen.getvalue().endswith("\r")


@pytest.mark.parametrize("stays", [False, True])
def test_elsewhere_each_state_is_a_line(monkeypatch, stays):
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    with bar("training", 3, unit="step", stays=stays) as shown:
        shown.update()
        shown.refresh()
        log.write("a warning\n")
        shown.update(2)
    assert "\r" not in log.getvalue()
    first, second, warning, last = log.getvalue().splitlines()
    assert [line.split("[")[0].split("|")[-1].strip() for line in (first, second, last)] == [
        "0/3",
        "1/3",
        "3/3",
    ]
    assert warning == "a warning"
    assert log.getvalue().endswith("\n")


def test_elsewhere_quick_work_is_not_told_step_by_step(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    for _ in bar("compiling", 500, over=range(500)):
        pass
    assert len(log.getvalue().splitlines()) == 2


def test_quiet_is_quiet(capsys):
    with bar("training", 3, quiet=True) as shown:
        shown.update(3)
    assert capsys.readouterr().err == ""
