"""Tab: the names of commands, and of the files that some of them take."""

import os
from collections.abc import Iterator, Mapping

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from qwen_audio_jax.terminal.typed_lines import Word, escaped, split
from qwen_audio_jax.terminal.visible import visible


class PathCompleter(Completer):
    """Completes a command's name, and paths behind those that take some."""

    def __init__(self, commands: Mapping[str, bool]):
        """Args: commands: by name, whether files stand behind it."""
        self._commands = commands

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterator[Completion]:
        """What may be typed next."""
        line = document.text_before_cursor
        name, blank, argument = line.partition(" ")
        if not blank:
            if line.startswith("/"):
                for command in self._commands:
                    if command.startswith(line):
                        yield Completion(command, -len(line))
        elif self._commands.get(name):
            yield from _paths(_last(argument))


def _last(argument: str) -> Word:
    """The word that is being typed; an empty one behind a blank."""
    # What is typed next tells whether a blank belongs to a word.
    words = split(f"{argument}x")
    last = words[-1]
    return Word(last.text[:-1], last.typed[:-1], last.open)


def _paths(word: Word) -> Iterator[Completion]:
    folder, prefix = os.path.split(word.text)
    place = os.path.expanduser(folder) if word.typed.startswith("~") else folder
    try:
        with os.scandir(place or ".") as entries:
            found = sorted((entry.name, entry.is_dir()) for entry in entries)
    except (OSError, ValueError):
        return
    for name, is_folder in found:
        if not name.startswith(prefix) or (name.startswith(".") and not prefix):
            continue
        path = os.path.join(folder, name) + "/" * is_folder
        yield Completion(
            _as_typed(path, word, whole=not is_folder),
            -len(word.typed),
            display=visible(name) + "/" * is_folder,
        )


def _as_typed(path: str, word: Word, *, whole: bool) -> str:
    """The path in the way that its beginning was typed: in quotes, or with backslashes."""
    if word.open == "'":
        return "'" + path.replace("'", "'\\''") + "'" * whole
    if word.open == '"':
        inside = "".join(f"\\{sign}" if sign in '"\\$`' else sign for sign in path)
        return f'"{inside}' + '"' * whole
    if word.typed.startswith("~") and path.startswith("~"):
        home, slash, rest = path.partition("/")
        return home + slash + escaped(rest)
    return escaped(path)
