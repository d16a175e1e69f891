"""SIGTERM and Ctrl-C as a wish, which the loop grants at the next step."""

import signal


class StopSignal:
    """Set by SIGTERM or Ctrl-C, so that the loop can save before it ends; a second one ends it.

    Attributes:
        requested: the signal's name, or "".
    """

    def __init__(self):
        self.requested = ""

    def __enter__(self) -> "StopSignal":
        self._before = {
            number: signal.signal(number, self._request)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number, frame) -> None:
        self.requested = signal.Signals(number).name
        signal.signal(number, self._before[number])
