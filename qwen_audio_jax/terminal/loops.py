"""Line after line, from a person or from a file."""

import itertools
import os
from collections.abc import Iterable

from qwen_audio_jax.terminal import commands
from qwen_audio_jax.terminal.session import Session

_ADD_NOTHING = {name.encode() for name in commands.COMMANDS} - {b"/audio", b"/record"}
"""Commands whose failure takes nothing from the next message; a path, or a slip, may."""


def talk(session: Session) -> None:
    """Does what a person types, until Ctrl-D or /quit."""
    start = "add a clip with" if session.questions else "type, or add a clip with"
    hint = f"{start} /audio FILE; /help shows more"
    while True:
        added = f"[{len(session.added)} clip{'s' * (len(session.added) != 1)}]"
        try:
            if session.added:
                hint = "ask about what was added, or press Enter to send it alone"
            line = session.keyboard.line(added if session.added else "", hint)
            hint = ""
            commands.run(session, line)
        except (EOFError, commands.Quit):
            return
        except KeyboardInterrupt:  # what was typed is thrown away
            hint = "Ctrl-D or /quit ends"
        except ValueError as error:
            session.screen.problem(str(error))


def answer_lines(session: Session, lines: Iterable[bytes]) -> int:
    """Does what the lines of a file or a pipe say; clips that are left at its end are sent.

    Where a clip cannot be added, the message that it was for is not sent either.

    Returns:
        How many lines could not be done; each was told of.
    """
    failed, spoiled = 0, False
    # An empty line at the end sends what was added and not sent.
    for number, data in enumerate(itertools.chain(lines, [b""]), start=1):
        adds = data.startswith(b"/") and data.split(None, 1)[0] not in _ADD_NOTHING
        try:
            if spoiled and not data.startswith(b"/"):
                spoiled, others, session.added = False, session.added, []
                if data.strip() or others:
                    raise ValueError("is not sent, since what was to be added to it could not be")
                continue
            commands.run(session, _text(data))
        except commands.Quit:
            break
        except ValueError as error:
            failed += 1
            spoiled |= adds
            if not data.startswith(b"/"):  # a message; what was added is not for the next one
                session.added = []
            session.screen.problem(f"line {number}: {error}")
    return failed


def _text(data: bytes) -> str:
    """A line as text; a path in it may have any bytes."""
    line = data.rstrip(b"\r\n")
    if not line.startswith(b"/"):
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"is no UTF-8 text ({error.reason}); convert it") from None
    return os.fsdecode(line)
