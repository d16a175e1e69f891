"""The fields of a request's object, each read once; what nobody has read is an error.

So a misspelt argument is told, and none is taken for granted that does nothing here.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any

from qwen_audio_jax.serving.errors import wrong

_SHOWN = 60


class Arguments:
    """An object of JSON that is being read; null is as if the field were not there."""

    def __init__(self, values: Any, where: str = ""):
        """Args: values: the object. where: its place in the request, "" being the body.

        Raises:
            ApiError: it is no object.
        """
        if not isinstance(values, dict):
            raise wrong(where, f"must be an object, not {shown(values)}")
        self._where = f"{where}." if where else ""
        self._left = {name: value for name, value in values.items() if value is not None}

    def path(self, name: str) -> str:
        """What a field is called in errors."""
        return self._where + name

    def take(self, name: str, default: Any = None) -> Any:
        """A field's value as it is."""
        return self._left.pop(name, default)

    def need(self, name: str, what: str) -> Any:
        """The same of one that must be there, and what it is."""
        if name not in self._left:
            raise wrong(self.path(name), f"is missing; it is {what}")
        return self._left.pop(name)

    def text(self, name: str, default: str = "") -> str:
        """A text."""
        return as_text(self.take(name, default), self.path(name))

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise wrong(self.path(name), f"must be true or false, not {shown(value)}")
        return value

    def number(self, name: str, default: float, least: float, most: float) -> float:
        """A number of a range, its ends included."""
        value = self.take(name, default)
        if not _is_number(value) or not least <= value <= most:
            raise wrong(
                self.path(name), f"must be a number from {least:g} to {most:g}, not {shown(value)}"
            )
        return float(value)

    def whole(self, name: str, default: int | None, least: int, most: int) -> int | None:
        """A whole number of a range, its ends included."""
        value = self.take(name, default)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise wrong(
                self.path(name),
                f"must be a whole number from {least:,} to {most:,}, not {shown(value)}",
            )
        return value

    def choice(self, name: str, default: str, options: Collection[str]) -> str:
        """One of some words."""
        value = self.take(name, default)
        if not isinstance(value, str) or value not in options:
            raise wrong(self.path(name), f"must be {' or '.join(options)}, not {shown(value)}")
        return value

    def ignore(self, names: Collection[str]) -> None:
        """Fields that change no answer at OpenAI either."""
        for name in names:
            self._left.pop(name, None)

    def refuse(self, neutral: Mapping[str, Collection[Any]]) -> None:
        """Fields that nothing is done about: none of them but with a value that asks nothing.

        Args:
            neutral: by name, those values.
        """
        for name, values in neutral.items():
            value = self._left.pop(name, None)
            if value is not None and not any(
                type(value) is type(one) and value == one for one in values
            ):
                mend = f", or send {shown(next(iter(values)))}" if values else ""
                raise wrong(self.path(name), f"is not supported here; leave it out{mend}")

    def finish(self) -> None:
        """Raises ApiError if a field is left that nobody has read."""
        if self._left:
            raise wrong(
                self.path(shown(next(iter(self._left)), quoted=False)),
                "is not an argument that is known here; leave it out",
            )


def as_text(value: Any, where: str) -> str:
    """A value that must be a text, of Unicode's characters alone."""
    if not isinstance(value, str):
        raise wrong(where, f"must be a text, not {shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise wrong(
            where, f"has half of a surrogate pair at character {error.start}, which is no text"
        ) from None
    return value


def shown(value: Any, *, quoted: bool = True) -> str:
    """A value as an error tells it, short and printable."""
    if isinstance(value, dict | list):
        kind = "object" if isinstance(value, dict) else "list"
        return f"an empty {kind}" if not value else {"object": "an object", "list": "a list"}[kind]
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and abs(value) > 10**_SHOWN:
        return "a number of more than 60 digits"
    text = ascii(value) if not quoted or not str(value).isprintable() else repr(value)
    text = text if quoted or not isinstance(value, str) else text[1:-1]
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or math.isfinite(value)
