"""Ctrl-C, and what is typed, while an answer comes."""

import contextlib
import signal
import sys
import termios
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def on_ctrl_c(action: Callable[[], None]) -> Iterator[None]:
    """Has Ctrl-C do something else than interrupt what is running.

    `action` is called in a thread: the main one may hold a lock that it needs.
    """
    before = signal.signal(
        signal.SIGINT, lambda *_: threading.Thread(target=action, daemon=True).start()
    )
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def without_echo() -> Iterator[None]:
    """Keeps what is typed off the screen until the next line is asked for, which gets it."""
    place = sys.stdin.fileno()
    before = termios.tcgetattr(place)
    quiet = list(before)
    quiet[3] &= ~termios.ECHO
    quiet[3] |= termios.NOFLSH  # else Ctrl-C throws away what was typed before it
    termios.tcsetattr(place, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(place, termios.TCSADRAIN, before)
