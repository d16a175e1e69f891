"""The fields of a configuration: each says by its annotation which values it may have.

    learning_rate: Annotated[float, Range(1e-12, 10)]

`build` makes dataclasses of nested mappings and refuses every other value; `describe` says in words
what a field may be, for its errors and for docs/configuration.md alike.
"""

import dataclasses
import difflib
import re
import types
import typing
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_NOUNS = {int: "a whole number", float: "a number", str: "text", bool: "True or False"}


class ConfigError(ValueError):
    """A configuration that cannot be run. The sentence names the key and the fix."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Of a number: from `low` to `high`, both included. NaN is in no range.

    Attributes:
        multiple: what it must be a multiple of.
        also: a value outside that it may be too.
        meaning: of that one.
    """

    low: float
    high: float
    multiple: int | None = None
    also: float | None = None
    meaning: str = ""

    def allows(self, value: float) -> bool:
        inside = self.low <= value <= self.high and not (self.multiple and value % self.multiple)
        return inside or value == self.also

    def __str__(self) -> str:
        text = f"from {_number(self.low)} to {_number(self.high)}"
        if self.multiple:
            text += f", a multiple of {self.multiple}"
        return text if self.also is None else f"{text}, or {_number(self.also)} ({self.meaning})"


@dataclasses.dataclass(frozen=True)
class OneOf:
    """Of a text: one of a few names."""

    names: tuple[str, ...]

    def allows(self, value: str) -> bool:
        return value in self.names

    def __str__(self) -> str:
        return f"one of {', '.join(self.names)}"


@dataclasses.dataclass(frozen=True)
class Folder:
    """Of a text: the path of a folder, there or not.

    Attributes:
        or_empty: whether it may be empty, which names none.
    """

    or_empty: bool = False

    def allows(self, value: str) -> bool:
        if not value:
            return self.or_empty
        # What other commands take for none or off would make a folder of that name.
        named = value == value.strip() and value.lower() not in ("none", "null", "true", "false")
        controls = any(unicodedata.category(letter) == "Cc" for letter in value)
        return named and not controls and len(value) <= 4096

    def __str__(self) -> str:
        return "a folder" + (", or empty" if self.or_empty else "")


@dataclasses.dataclass(frozen=True)
class Text:
    """Of a text: something in it can be seen, and it has at most so many characters."""

    most: int

    def allows(self, value: str) -> bool:
        seen = any(letter.isprintable() and not letter.isspace() for letter in value)
        return seen and len(value) <= self.most

    def __str__(self) -> str:
        return f"not blank, of at most {self.most:,} characters"


@dataclasses.dataclass(frozen=True)
class RegularExpression:
    """Of a text: a pattern that compiles. An empty one would be found in everything.

    Attributes:
        layers: whether a range of layers may stand behind it, see `split_layers`.
    """

    layers: bool = False

    def allows(self, value: str) -> bool:
        try:
            pattern, layers = split_layers(value)
            return bool(pattern and re.compile(pattern)) and (self.layers or layers is None)
        except (ValueError, re.error, OverflowError, RecursionError):
            return False

    def __str__(self) -> str:
        behind = "a range of layers such as [0:20] behind it or not"
        behind = behind if self.layers else "no range of layers behind it"
        return f"a regular expression of Python's re, {behind}, not empty"


def split_layers(text: str) -> tuple[str, slice | None]:
    """`"^decoder/blocks[0:20]"` as ("^decoder/blocks", slice(0, 20)); None where no range is.

    What stands in square brackets at the end and has a colon is a range, as Python writes one: no
    parameter's path has a colon, so that no pattern needs it in a set of characters.

    Raises:
        ValueError: it is no range of whole numbers.
    """
    found = re.fullmatch(r"(.*)\[([^\[\]]*):([^\[\]]*)\]", text, re.DOTALL)
    if not found:
        return text, None
    first, end = (int(edge) if edge else None for edge in found.groups()[1:])
    return found[1], slice(first, end)


class Factor:
    """Of a number: what a learning rate is multiplied by."""

    def allows(self, value: float) -> bool:
        return 0 < value <= 1000

    def __str__(self) -> str:
        return "above 0, at most 1,000 (what shall not be trained is in config.optimizer.frozen)"


@dataclasses.dataclass(frozen=True)
class Items:
    """Of a tuple or mapping: how many it has, from `least` to `most`."""

    least: int
    most: int

    def allows(self, value: Sequence | Mapping) -> bool:
        return self.least <= len(value) <= self.most

    def __str__(self) -> str:
        return f"{self.least} to {self.most} items"


class Rising:
    """Of a pair of numbers: the lower first."""

    def allows(self, value: Sequence[float]) -> bool:
        return value[0] <= value[1]

    def __str__(self) -> str:
        return "the lower first"


@dataclasses.dataclass(frozen=True)
class Keys:
    """Of a mapping: exactly these keys."""

    names: tuple[str, ...]

    def allows(self, value: Mapping) -> bool:
        return set(value) == set(self.names)

    def __str__(self) -> str:
        return f"with the keys {', '.join(self.names)}"


@dataclasses.dataclass(frozen=True)
class Named:
    """Of an item in a tuple: what it is called. It restricts nothing."""

    name: str


@dataclasses.dataclass(frozen=True)
class Example:
    """Of a tuple or mapping: how one is typed, for its errors. It restricts nothing."""

    text: str


def build(cls: type, values: Any, path: str) -> Any:
    """A dataclass of annotated fields from nested mappings.

    Args:
        cls: the dataclass; fields may be dataclasses themselves.
        values: a value for each field; lists stand for tuples, as in JSON.
        path: the key that they stand at, as it is typed.

    Raises:
        ConfigError: a key that does not exist or is missing, or a value that it may not have.
    """
    if not isinstance(values, Mapping):
        raise refused(cls, values, path)
    fields = typing.get_type_hints(cls, include_extras=True)
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(fields)}"
            raise ConfigError(f"{path}.{shown_key(key)}: no such key; {hint}")
    if missing := [key for key in fields if key not in values]:
        raise ConfigError(f"{path}.{missing[0]}: is missing")
    made = {}
    for key, annotation in fields.items():
        value, here = values[key], f"{path}.{key}"
        if dataclasses.is_dataclass(annotation):
            made[key] = build(annotation, value, here)
        else:
            made[key] = checked(annotation, value, here)
            if plain(annotation) is float:
                made[key] = float(made[key])
    try:
        return cls(**made)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def checked(annotation: Any, value: Any, path: str, hint: str = "") -> Any:
    """A value that a field may have, its tuples and mappings made immutable.

    Whole numbers stay what they are where a fraction may stand too: the name of a run's folder is
    a digest of what was typed.

    Raises:
        ConfigError: it may not have it.
    """
    kind, marks = _parts(annotation)
    hint = _example(marks, path) or hint
    origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
    if kind is float and isinstance(value, str) and value == "inf":  # as `to_json` writes it
        value = float(value)
    if not _is_of(origin, value):
        raise refused(annotation, value, path, hint)
    if origin is str and not _can_be_written(value):
        raise ConfigError(f"{path}: no file can be named by what is in {shown(value)}")
    if origin is tuple:
        of = [arguments[0]] * len(value) if arguments[-1] is ... else arguments
        if len(value) != len(of):
            raise refused(annotation, value, path, hint)
        made = tuple(
            checked(one, item, f"{path}[{number}]", hint)
            for number, (one, item) in enumerate(zip(of, value, strict=True))
        )
    elif origin is Mapping:
        named, of = arguments
        for key in value:
            checked(named, key, f"a key of {path}", hint)
        items = {key: checked(of, value[key], f"{path}.{shown_key(key)}", hint) for key in value}
        made = types.MappingProxyType(items)
    else:
        made = value
    if not all(mark.allows(made) for mark in _restricting(marks)):
        raise refused(annotation, value, path, hint)
    return made


def refused(annotation: Any, value: Any, path: str, hint: str = "") -> ConfigError:
    """The error of a value that a field may not have.

    Args:
        annotation: of the field, or the dataclass of a group of them.
        value: what it was to be.
        path: the key as it is typed.
        hint: how the whole of which it is an item is typed.
    """
    hint = _example(_parts(annotation)[1], path) or hint
    return ConfigError(f"{path}: must be {describe(annotation)}, not {shown(value)}{hint}")


def refusal(cls: type, key: str, value: Any) -> ConfigError:
    """The error of a value that cannot be read as what a key must be.

    Args:
        cls: the configuration.
        key: as it is typed, such as "config.train.steps".
        value: the text behind it.
    """
    annotation = annotation_at(cls, key.split(".")[1:])
    if annotation is None:
        return ConfigError(f"{key}: no such key")
    return refused(annotation, value, key)


def describe(annotation: Any) -> str:
    """What a field may be, in words: "a whole number from 1 to 8"."""
    if dataclasses.is_dataclass(annotation):
        return f"a mapping with the keys {', '.join(typing.get_type_hints(annotation))}"
    kind, marks = _parts(annotation)
    arguments = typing.get_args(kind)
    words = [str(mark) for mark in _restricting(marks)]
    if kind is str and words:
        return words[0] if words[0].startswith(("one", "a ")) else f"text, {words[0]}"
    if kind in _NOUNS:
        return " ".join([_NOUNS[kind], *words])
    if arguments[-1] is ...:
        return ", ".join(["a tuple", *words, f"each {describe(arguments[0])}"])
    if typing.get_origin(kind) is tuple:
        return ", ".join([f"({', '.join(map(_item, arguments))})", *words])
    return ", ".join(["a mapping", *words, f"each {describe(arguments[1])}"])


def annotation_at(cls: type, keys: Sequence[str]) -> Any:
    """The annotation of a field, found by the names on the way to it; None if there is none."""
    found: Any = cls
    for key in keys:
        if dataclasses.is_dataclass(found):
            found = typing.get_type_hints(found, include_extras=True).get(key)
        else:
            kind, _ = _parts(found)
            found = typing.get_args(kind)[1] if typing.get_origin(kind) is Mapping else None
    return found


def plain(annotation: Any) -> Any:
    """A type without what it is annotated with, within tuples and mappings as well."""
    kind, _ = _parts(annotation)
    if arguments := typing.get_args(kind):
        inner = tuple(one if one is ... else plain(one) for one in arguments)
        return typing.get_origin(kind)[inner]
    return kind


def shown(value: Any) -> str:
    """A value as Python writes it, its middle left out where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits
        return f"what is too long to be written ({type(value).__name__})"
    return text if len(text) <= 100 else f"{text[:60]} [...] {text[-20:]}"


def shown_key(key: Any) -> str:
    """A key of a mapping; what is no plain word is quoted."""
    return key if isinstance(key, str) and key.isidentifier() else shown(key)


def _parts(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """(type, marks) of Annotated[type, *marks]."""
    marks = getattr(annotation, "__metadata__", ())
    return (annotation.__origin__ if marks else annotation), marks


def _example(marks: Iterable[Any], path: str) -> str:
    found = (mark.text for mark in marks if isinstance(mark, Example))
    return "".join(f"; such as --{path}='{text}'" for text in found)


def _restricting(marks: Iterable[Any]) -> list[Any]:
    return [mark for mark in marks if not isinstance(mark, Named | Example)]


def _is_of(origin: type, value: Any) -> bool:
    if origin is tuple:
        return isinstance(value, list | tuple)
    if origin is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, origin) and (origin is bool or not isinstance(value, bool))


def _can_be_written(value: str) -> bool:
    """Whether a text has neither NUL nor what is no character of Unicode."""
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def _item(annotation: Any) -> str:
    _, marks = _parts(annotation)
    names = [f"{mark.name}: " for mark in marks if isinstance(mark, Named)]
    return "".join(names) + describe(annotation)


def _number(value: float) -> str:
    whole = isinstance(value, int) or (value.is_integer() and value < 1e15)
    return f"{int(value):,}" if whole else f"{value:g}"
