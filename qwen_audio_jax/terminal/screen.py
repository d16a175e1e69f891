"""What is shown: answers on standard output, and all else beside them.

In a terminal all of it stands there in turn; elsewhere notes and errors go to standard error, so
that standard output has the answers alone.
"""

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from qwen_audio_jax.terminal.visible import visible

PROMPT = "› "


class Screen:
    """Where answers, notes and errors are shown.

    Attributes:
        interactive: whether somebody types and looks at it.
    """

    def __init__(self, *, interactive: bool):
        """Args: interactive: whether somebody types and looks at it."""
        self.interactive = interactive
        self._beside = Console(stderr=not interactive, highlight=False)
        # Lines in a file are as long as they are.
        self._beside.soft_wrap = not self._beside.is_terminal
        self._is_seen = sys.stdout.isatty()

    def note(self, text: str) -> None:
        """Something that is neither answer nor error."""
        self._beside.print(visible(text), style="dim", markup=False)

    def plain(self, text: str) -> None:
        """Something to read, such as a list of the commands."""
        self._beside.print(visible(text), markup=False)

    def problem(self, text: str) -> None:
        """An error, in one sentence."""
        self._beside.print(f"error: {visible(text)}", style="red", markup=False)

    def waiting(self, text: str) -> contextlib.AbstractContextManager:
        """Shows, while it lasts, that something is being done; nothing where nobody sees it."""
        if not self._beside.is_terminal:
            return contextlib.nullcontext()
        return self._beside.status(Text(visible(text), style="dim"), spinner="dots")

    @contextlib.contextmanager
    def starting(self, text: str) -> Iterator[None]:
        """The same without a thread, which Python's imports are not safe from in some libraries."""
        if self._beside.is_terminal:
            self._beside.print(Text(text, style="dim"), end="\r")
        yield
        if self._beside.is_terminal:
            self._beside.print(" " * len(text), end="\r")

    def pieces(self, pieces: Iterator[str], waiting: str) -> None:
        """An answer, piece by piece as it comes.

        Args:
            pieces: of its text.
            waiting: what is being done until the first of them comes.
        """
        with self.waiting(waiting):
            piece = next(pieces, None)
        try:
            while piece is not None:
                self._write(piece)
                piece = next(pieces, None)
        finally:
            self._write("\n")

    def _write(self, text: str) -> None:
        sys.stdout.write(visible(text) if self._is_seen else text)
        sys.stdout.flush()
