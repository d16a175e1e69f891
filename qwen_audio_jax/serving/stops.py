"""Stop strings in a text that comes piece by piece."""

from collections.abc import Sequence


class Stops:
    """Lets text through up to the first stop string, which may come in several pieces.

    Attributes:
        found: whether one has come; what follows is dropped.
    """

    def __init__(self, strings: Sequence[str]):
        """Args: strings: any of which ends the text; none of them empty."""
        self._strings = tuple(strings)
        self._held = ""
        self.found = False

    def push(self, piece: str) -> str:
        """What of the text so far is sure to stand before a stop string, and is new."""
        if self.found:
            return ""
        text = self._held + piece
        places = [at for one in self._strings if (at := text.find(one)) >= 0]
        if places:
            self.found, self._held = True, ""
            return text[: min(places)]
        keep = max((_overlap(text, one) for one in self._strings), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def end(self) -> str:
        """What was held back, as no stop string has come of it."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """The longest end of a text that a stop string begins with."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
