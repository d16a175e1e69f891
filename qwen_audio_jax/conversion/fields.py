"""One level of a config.json: values by key, of the type and range that are asked for."""

import dataclasses
import math
import reprlib
from collections.abc import Mapping
from typing import Any

from qwen_audio_jax.conversion.errors import ConversionError

NEEDED = object()
"""The default of a key that must be there."""

LARGEST = 1 << 24
"""No size of a model is larger; what says so would only be found out by running out of memory."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


def shown(value: Any) -> str:
    """A value as a sentence tells it, which may be of any size and depth."""
    return _SHORT.repr(value)


@dataclasses.dataclass(frozen=True)
class Fields:
    """One level of a config.json.

    Attributes:
        values: its keys.
        where: what to call it in an error.
    """

    values: Mapping[str, Any]
    where: str

    def get(self, key: str, default: Any = NEEDED) -> Any:
        """The value of a key that is there and not null, else the default."""
        value = self.values.get(key)
        if value is not None:
            return value
        if default is NEEDED:
            raise ConversionError(f"{self.where}: has no {key!r}, which this model needs")
        return default

    def group(self, key: str, default: Any = NEEDED) -> "Fields":
        """A nested level."""
        value = self.get(key, default)
        if not isinstance(value, Mapping):
            raise ConversionError(f"{self.where}: {key!r} must be an object, not {shown(value)}")
        return Fields(value, f"{self.where}, {key}")

    def integer(self, key: str, default: Any = NEEDED, *, most: int = LARGEST) -> int:
        """A positive whole number."""
        value = self.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise ConversionError(
                f"{self.where}: {key!r} must be a positive whole number up to {most:,}, "
                f"not {shown(value)}"
            )
        return value

    def number(self, key: str, default: Any = NEEDED) -> float:
        """A positive number."""
        value = self.get(key, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        # Integers of JSON have no bounds, and floats are compared with them exactly.
        if not is_number or not 0 < value < math.inf or value > 1e38:
            raise ConversionError(
                f"{self.where}: {key!r} must be a positive number, not {shown(value)}"
            )
        return float(value)

    def flag(self, key: str, default: bool | None = None) -> bool | None:
        """True or false; the default where it says neither."""
        value = self.get(key, default)
        if value is not default and not isinstance(value, bool):
            raise ConversionError(
                f"{self.where}: {key!r} must be true or false, not {shown(value)}"
            )
        return value

    def must_be(self, key: str, *allowed: Any, default: Any) -> None:
        """Refuses what this project does not build."""
        if (value := self.get(key, default)) not in allowed:
            raise ConversionError(
                f"{self.where}: {key} is {shown(value)}; only {allowed[0]!r} is supported"
            )

    def under_one_name(self, others: Mapping[str, str]) -> "Fields":
        """The same level with each key under one name.

        Args:
            others: a key's other name, and the one it is asked for here.

        Raises:
            ConversionError: both are there and differ.
        """
        values = dict(self.values)
        for other, name in others.items():
            if (value := values.get(other)) is None:
                continue
            if values.get(name) not in (None, value):
                raise ConversionError(
                    f"{self.where}: {name!r} is {shown(values[name])} and {other!r}, another name "
                    f"of it, {shown(value)}; delete the one that is wrong"
                )
            values[name] = value
        return Fields(values, self.where)
