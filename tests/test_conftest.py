"""How the tests run: long files first, and a word when they take too long."""

import types

import conftest
import pytest


class Terminal:
    """Keeps what pytest's reporter would print."""

    def __init__(self, durations):
        reports = [
            types.SimpleNamespace(nodeid=f"test_{number}", duration=seconds)
            for number, seconds in enumerate(durations)
        ]
        self.stats = {"passed": reports, "": reports[:1], "deselected": [object()]}
        self.lines = []

    def section(self, title):
        self.lines.append(title)

    def line(self, text, **markup):
        self.lines.append(text)


def test_within_the_budget_nothing_is_said():
    terminal = Terminal([1.0] * 20)
    conftest.pytest_terminal_summary(terminal)
    assert terminal.lines == []


def test_over_the_budget_the_ten_slowest_are_named():
    # The first one is reported twice: its set-up counts too.
    terminal = Terminal([conftest.BUDGET_SECONDS / 2 + 1, *range(1, 20)])
    conftest.pytest_terminal_summary(terminal)
    title, sentence, *named = terminal.lines
    assert title == "slow tests"
    assert f"more than {conftest.BUDGET_SECONDS:,} s" in sentence
    assert [line.split()[-1] for line in named] == [
        "test_0",
        *(f"test_{n}" for n in range(19, 10, -1)),
    ]


def test_long_files_come_first():
    items = [
        types.SimpleNamespace(path=conftest.TESTS / name)
        for name in ("audio/test_decode.py", "models/test_cache.py", "training/test_loop.py")
    ]
    shuffled = items[:]
    conftest.pytest_collection_modifyitems(shuffled)
    assert shuffled == items[::-1]


@pytest.mark.parametrize("name", conftest.LONG)
def test_long_files_are_there(name):
    assert (conftest.TESTS / name).exists()
