"""The keyboard of a terminal: lines with completion."""

from collections.abc import Callable, Mapping

from prompt_toolkit import PromptSession
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.keys import Keys
from prompt_toolkit.styles import Style

from qwen_audio_jax.terminal.path_completion import PathCompleter
from qwen_audio_jax.terminal.screen import PROMPT

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
        # A colour that is pasted looks like one, and prompt_toolkit fails to read it.
        keys.add(Keys.Vt100MouseEvent)(lambda event: None)
        self._lines = PromptSession(
            completer=PathCompleter(commands),
            complete_while_typing=False,
            enable_suspend=True,
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
        self._lines.bottom_toolbar = hint or None  # given to `prompt`, None would keep the last one
        return self._lines.prompt(
            FormattedText([("class:added", f"{added} " * bool(added)), ("class:prompt", PROMPT)])
        )

    def wait(self, told: Callable[[], str]) -> None:
        """Waits for Enter, and shows meanwhile what is told.

        Raises:
            EOFError: Ctrl-D was typed.
            KeyboardInterrupt: Ctrl-C was.
        """
        self._recording.prompt(told, refresh_interval=_REFRESH_SECONDS)
