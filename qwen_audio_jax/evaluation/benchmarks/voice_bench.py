"""VoiceBench (Chen et al., 2024): its sets that need no judge, a row of the published table a line.

`audio` names a file instead of holding samples. A clip asks all by itself, and nothing is written
behind it; `prompt` is what it says.
"""

import functools
import itertools
import pathlib
import re
from collections.abc import Sequence

from data_pipelines.records import RejectedRecord
from qwen_audio_jax.evaluation.benchmarks.files import Fields, clips_of, read_rows, text
from qwen_audio_jax.evaluation.benchmarks.item import ELSEWHERE, REFUSALS, Item, LeftOut
from qwen_audio_jax.evaluation.benchmarks.questions import about, item

_LETTERS = (("A", "B", "C", "D"),)

SETS: dict[str, tuple[str, tuple[tuple[str, ...], ...]]] = {
    "openbookqa": ("voicebench", _LETTERS),
    "mmsu": ("voicebench", _LETTERS),
    "bbh": ("letter_then_text", (("Yes", "No"), ("(A)", "(B)"))),
    "ifeval": (ELSEWHERE, ()),
    "advbench": (REFUSALS, ()),
}
"""By what they are called: the rule of their answers, and the kinds of choices that they have.

The name tells them, as the fields of advbench are also those of sets that need a judge.
"""

LIMIT = 2048
"""Tokens of an answer in its script, src/models/qwen2.py."""


def read(path: pathlib.Path, name: str = "") -> tuple[list[Item], list[LeftOut]]:
    """One of SETS.

    The choices of openbookqa and mmsu are spoken, and the letters are all that the list has of
    them. Those of bbh are read by this project's rule: VoiceBench's is a list of hundreds of
    phrases, and draws what it does not find. ifeval is checked by VoiceBench's own script, see
    `item.ELSEWHERE`.

    Args:
        path: the list.
        name: what the user calls it: names the set, if neither file nor folder does.

    Raises:
        RejectedRecord: it cannot be read, or is none of the sets.
    """
    return read_rows(path, id_of, functools.partial(_item, path, set_of(path, name)))


def set_of(path: pathlib.Path, name: str = "") -> str:
    """Which of SETS a list is. Raises RejectedRecord: none."""
    for called in (name, path.stem, path.absolute().parent.name):
        for part in re.split(r"[^a-z0-9]+", called.lower()):
            if part in SETS:
                return part
    raise RejectedRecord(
        f"{path}: its rows are VoiceBench's, whose sets tell how answers are scored; call the "
        f"benchmark by one of these names: {', '.join(SETS)}. The others need its own judge"
    )


def id_of(number: int, fields: Fields) -> str:
    """The row's own id where its set has such, or its number."""
    given = [fields[key] for key in ("id", "key", "question_id") if key in fields]
    return str(given[0] if given and type(given[0]) in (str, int) else number)


def _item(path: pathlib.Path, of: str, name: str, fields: Fields) -> Item:
    annotation = {"question": text(fields, "prompt"), "text": ""}
    annotation |= about(fields, {"source": "src", "category": "category"})
    clips = clips_of(path, text(fields, "audio"))
    rule, known = SETS[of]
    choices: tuple[str, ...] = ()
    if known:
        choices, annotation["text"] = _choices(fields, known)
    return item(name, clips, "", annotation, choices=choices, rule=rule, limit=LIMIT)


def _choices(fields: Fields, known: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], str]:
    """The choices of which `reference` is one, and which."""
    said = text(fields, "reference")
    for choices in known:
        for choice in choices:
            if choice.casefold() == said.strip().casefold():
                return choices, choice
    told = ", ".join(map(repr, itertools.chain.from_iterable(known)))
    raise RejectedRecord(f"field 'reference': {said!r} is not among the choices {told}")
