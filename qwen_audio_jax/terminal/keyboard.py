"""The keyboard of a terminal: lines with completion, and Ctrl-C while an answer comes."""

import contextlib
import signal
import sys
import termios
import threading
from collections.abc import Callable, Iterator, Mapping

from prompt_toolkit import PromptSession
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.styles import Style

from qwen_audio_jax.terminal.path_completion import PathCompleter

PROMPT = "› "
_DIM = "#888888"
_REFRESH_SECONDS = 0.1


class Keyboard:
    """Lines that a person types.

    Enter sends one, Alt-Enter begins another line of it, arrow keys bring back those before.
    """

    def __init__(self, commands: Mapping[str, bool]):
        """Args: commands: by name, whether files stand behind it."""
        keys = KeyBindings()
        keys.add("escape", "enter")(lambda event: event.current_buffer.insert_text("\n"))
        self._lines = PromptSession(
            completer=PathCompleter(commands),
            complete_while_typing=False,
            key_bindings=keys,
            style=Style.from_dict(
                {"prompt": "bold", "added": _DIM, "bottom-toolbar": f"noreverse {_DIM}"}
            ),
        )
        # Without history, so that the arrow keys do not bring back what was typed at a recording.
        self._recording = PromptSession(key_bindings=KeyBindings())

    def line(self, added: str, hint: str) -> str:
        """The next line.

        Args:
            added: what waits to be sent with it; "" if nothing does.
            hint: stands below it until it is sent.

        Raises:
            EOFError: Ctrl-D was typed.
            KeyboardInterrupt: Ctrl-C was.
        """
        return self._lines.prompt(
            FormattedText([("class:added", f"{added} " * bool(added)), ("class:prompt", PROMPT)]),
            bottom_toolbar=hint or None,  # which goes when the line is sent
        )

    def wait(self, told: Callable[[], str]) -> None:
        """Waits for Enter, and shows meanwhile what is told.

        Raises:
            EOFError: Ctrl-D was typed.
            KeyboardInterrupt: Ctrl-C was.
        """
        self._recording.prompt(told, refresh_interval=_REFRESH_SECONDS)


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
