"""What a typed line says: a command with its argument, or the text of a turn.

A line that begins with "/" is a command. One that is nothing but files dragged into the terminal is
`/audio` of them, however the terminal has spelled their names: in quotes, with backslashes, as
file:// URIs, or plainly with blanks in them.
"""

import dataclasses
import difflib
import os
import re
import urllib.parse
from collections.abc import Collection

AUDIO = "/audio"

_NOT_ESCAPED = re.compile(r"[\w@%+=:,./-]", re.ASCII)
_URI = re.compile(r"file:/", re.IGNORECASE)
_BEGINS_A_PATH = re.compile(r"""['"]?(/|~/|\\|file:/|[A-Za-z]:\\)""", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Word:
    """One word of an argument, told apart as a shell would.

    Attributes:
        text: what it says.
        typed: how it was typed.
        open: the quote or the backslash that nothing follows; "" if it is whole.
    """

    text: str
    typed: str
    open: str = ""

    @property
    def path(self) -> str:
        """The file that it names.

        Raises:
            ValueError: a URI of another machine, or no name that a file can have.
        """
        if "\0" in self.text:
            raise ValueError(f"{_short(self.text)}: no file's name has a NUL in it; type it anew")
        if _URI.match(self.typed):
            return _path_of_uri(self.text)
        return os.path.expanduser(self.text) if self.typed.startswith("~") else self.text


@dataclasses.dataclass(frozen=True)
class Command:
    """A command, as "/audio", and all that stands behind it, blanks at its end too."""

    name: str
    argument: str = ""


def read(line: str, names: Collection[str]) -> Command | str:
    """The command or the text of a line.

    Args:
        line: as it was typed.
        names: of the commands.

    Raises:
        ValueError: it begins as a command and is none.
    """
    if (dragged := _BEGINS_A_PATH.match(line)) and _are_files(line):
        return Command(AUDIO, line)
    if not line.startswith("/"):
        return line.strip()
    name, *argument = line.split(None, 1)
    if name in names:
        return Command(name, "".join(argument))
    if dragged and len(name) > 1 and "/" in name[1:]:
        raise ValueError(
            f"{_short(name)} is no file that is there; if it was meant as text, begin the line "
            "with a blank"
        )
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else "/help lists them."
    raise ValueError(
        f"{_short(name)} is no command; {hint} Text that begins with / takes a blank before it"
    )


def paths(argument: str) -> list[str]:
    """The files that an argument names, one or several.

    Raises:
        ValueError: a quote is left open, or a URI names another machine.
    """
    typed = argument.strip()
    whole = Word(typed, typed)
    words = split(argument)
    if words and words[-1].open:
        if os.path.isfile(whole.path):
            return [whole.path]
        raise ValueError(
            f"{_short(typed)}: {words[-1].open} has no counterpart; put the path into quotes, or a "
            "backslash before each blank and quote in it"
        )
    named = [word.path for word in words]
    # Blanks that were neither quoted nor escaped: some terminals put a path in as it is.
    if not all(map(os.path.isfile, named)) and os.path.isfile(whole.path):
        return [whole.path]
    return named


def path(argument: str) -> str:
    """The one file that an argument names; "" if it names none. Blanks need no quotes.

    Raises:
        ValueError: several files, a quote that is left open, or a URI of another machine.
    """
    typed = argument.strip()
    if not set(typed) & set("'\"\\"):
        return Word(typed, typed).path
    named = paths(argument)
    if len(named) > 1:
        raise ValueError(f"{_short(typed)} names {len(named)} files, where one is taken")
    return named[0]


def split(argument: str) -> list[Word]:
    """The words of an argument, by a shell's rules of blanks, quotes and backslashes."""
    words: list[Word] = []
    said, begin, quote = "", -1, ""
    at = 0
    while at < len(argument):
        sign, following = argument[at], argument[at + 1 : at + 2]
        if begin < 0 and not sign.isspace():
            begin = at
        if quote == "'" or (quote and sign != "\\"):
            said, quote = (said, "") if sign == quote else (said + sign, quote)
        elif sign == "\\" and following and (not quote or following in '"\\$`'):
            said, at = said + following, at + 1
        elif sign == "\\":
            said += sign if quote else ""
            if not following:
                return [*words, Word(said, argument[begin:], quote or sign)]
        elif sign in "'\"":
            quote = sign
        elif sign.isspace():
            if begin >= 0:
                words.append(Word(said, argument[begin:at]))
            said, begin = "", -1
        else:
            said += sign
        at += 1
    return [*words, Word(said, argument[begin:], quote)] if begin >= 0 else words


def quoted(path: str) -> str:
    """A path as one word of an argument, in quotes if need be."""
    plain = all(map(_NOT_ESCAPED.match, path)) and not _URI.match(path)
    return path if path and plain else "'" + path.replace("'", "'\\''") + "'"


def escaped(path: str) -> str:
    """A path as one word of an argument, with backslashes where they are needed."""
    text = "".join(sign if _NOT_ESCAPED.match(sign) else f"\\{sign}" for sign in path)
    return f"\\{text}" if _URI.match(path) else text


def _are_files(line: str) -> bool:
    """Whether a line is nothing but files that are there."""
    try:
        named = paths(line)
        return bool(named) and all(map(os.path.isfile, named))
    except ValueError:
        return False


def _path_of_uri(uri: str) -> str:
    rest = uri[len("file:") :]
    if rest.startswith("//"):
        host, slash, rest = rest[2:].partition("/")
        if host not in ("", "localhost"):
            raise ValueError(
                f"{_short(uri)} is a file of another machine, {_short(host)}; copy it to this one"
            )
        rest = slash + rest
    return urllib.parse.unquote(rest, errors="surrogateescape")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...")
