"""What each command of the terminal does."""

import dataclasses
from collections.abc import Callable

from qwen_audio_jax.rendering.chat import SYSTEM
from qwen_audio_jax.terminal import microphone, typed_lines
from qwen_audio_jax.terminal.clips import read_clip
from qwen_audio_jax.terminal.screen import PROMPT
from qwen_audio_jax.terminal.session import Session


class Quit(Exception):
    """The talk is at its end."""


@dataclasses.dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        takes: what stands behind it, for people.
        says: what it does, likewise.
        does: is given the session and the argument. It raises ValueError, with a sentence.
        files: whether files stand behind it.
        of_talks: whether it means nothing to questions of a task.
    """

    takes: str
    says: str
    does: Callable[[Session, str], None]
    files: bool = False
    of_talks: bool = False


def run(session: Session, line: str) -> None:
    """Does what a line says.

    Raises:
        ValueError: it cannot be done; one sentence.
        Quit: it was to end.
    """
    read = typed_lines.read(line, COMMANDS)
    if isinstance(read, str):
        if read or session.added:
            session.send(read)
        return
    command = COMMANDS[read.name]
    if command.of_talks and session.questions:
        raise ValueError(
            f"{read.name} is of talks, and with --task each question stands for itself; start "
            "without --task to talk"
        )
    if read.argument.strip() and not command.takes:
        raise ValueError(f"{read.name} takes nothing behind it, and {read.argument!r} stands there")
    command.does(session, read.argument)


def _audio(session: Session, argument: str) -> None:
    paths = typed_lines.paths(argument)
    if not paths:
        raise ValueError("/audio takes a file, or several; Tab completes names")
    session.add([read_clip(path) for path in paths])


def _record(session: Session, argument: str) -> None:
    if session.keyboard is None:
        raise ValueError("/record takes a terminal, where somebody can end it; use /audio FILE")
    with microphone.Recording() as recording:
        try:
            session.keyboard.wait(recording.told)
        except (KeyboardInterrupt, EOFError):
            session.screen.note("thrown away")
            return
    session.add([recording.clip("recording")])


def _undo(session: Session, argument: str) -> None:
    session.screen.note(session.undo())


def _again(session: Session, argument: str) -> None:
    session.again()


def _save(session: Session, argument: str) -> None:
    path = _one_path("/save", argument)
    session.save(path)
    session.screen.note(f"saved as {path}; /load {typed_lines.quoted(path)} goes on with it")
    if session.added:
        session.screen.note("the clips that were added and not sent are not in it")


def _load(session: Session, argument: str) -> None:
    session.load(_one_path("/load", argument))
    for message in session.conversation.messages:
        head = {"user": PROMPT, "system": "/system "}.get(message["role"], "")
        session.screen.plain(head + _shown(message["content"]))


def _system(session: Session, argument: str) -> None:
    if text := argument.strip():
        session.conversation.system = text
        session.screen.note("the system message is set")
        return
    system = session.conversation.system
    session.screen.plain(SYSTEM["content"] if system is None else system)


def _reset(session: Session, argument: str) -> None:
    session.screen.note(session.reset())


def _help(session: Session, argument: str) -> None:
    width = max(len(f"{name} {one.takes}") for name, one in COMMANDS.items())
    for name, one in COMMANDS.items():
        if not (one.of_talks and session.questions):
            session.screen.plain(f"{f'{name} {one.takes}':{width}}  {one.says}")
    session.screen.plain(
        "Files dragged into the terminal are added as by /audio. Enter alone sends what was added. "
        "Ctrl-C ends an answer, Alt-Enter begins another line. Text that begins with / takes a "
        "blank before it."
    )


def _quit(session: Session, argument: str) -> None:
    raise Quit


def _one_path(name: str, argument: str) -> str:
    path = typed_lines.path(argument)
    if not path:
        raise ValueError(f"{name} takes a file; type its name behind it")
    return path


def _shown(content: str | list[dict[str, str]]) -> str:
    if isinstance(content, str):
        return content
    return " ".join("[clip]" if part["type"] == "audio" else part["text"] for part in content)


COMMANDS = {
    "/audio": Command("FILE ...", "adds clips to the next message", _audio, files=True),
    "/record": Command("", "adds what the microphone hears, up to Enter", _record),
    "/undo": Command("", "takes back the clip added last, or the last turn", _undo),
    "/again": Command("", "answers the last message anew", _again),
    "/save": Command("FILE", "writes the talk to a file", _save, files=True, of_talks=True),
    "/load": Command("FILE", "goes on with a talk from a file", _load, files=True, of_talks=True),
    "/system": Command("[TEXT]", "shows or sets the system message", _system, of_talks=True),
    "/reset": Command("", "begins a new talk", _reset),
    "/help": Command("", "shows this", _help),
    "/quit": Command("", "ends, as Ctrl-D does", _quit),
}
