"""Turns transcripts into talks: questions about recordings, and their answers.

    python -m data_pipelines.talks_from_manifest --manifest=train.jsonl --out=talks.jsonl
    python -m data_pipelines.build --source=conversations --manifest=talks.jsonl --out=data/talks

The manifest is one of `data_pipelines.build --source=manifest`; its rows of task `asr` are taken.
Each becomes one talk: what is said, in which language, both, in one turn or two; or two recordings
are compared, the other one drawn from the rest. Requests are in English, in several wordings. The
same manifest gives the same talks.
"""

import argparse
import collections
import dataclasses
import json
import os
import pathlib
import random
import sys
from collections.abc import Callable, Sequence
from typing import Any

from data_pipelines.labels import stored_annotation
from data_pipelines.records import RejectedRecord, told_of
from data_pipelines.sources import manifest
from data_pipelines.sources.rows import Row
from qwen_audio_jax.rendering.languages import language_name

_SAID = (
    "What does the speaker say?",
    "What is said here?",
    "Please write down what you hear.",
    "Transcribe the recording, word for word.",
    "What are the speaker's words?",
)
_LANGUAGE = (
    "Which language is this?",
    "What language does the speaker use?",
    "In which language is this said?",
)
_LANGUAGE_AND_SAID = (
    "Which language is this, and what is said?",
    "Name the language, then write down the words.",
    "What is said, and in which language? Begin with the language.",
)
_THEN_LANGUAGE = ("And which language is that?", "What language was it?", "In which language?")
_THEN_SAID = ("And what does it say?", "What was said in it?", "Write down its words, please.")
_WHICH = (
    "Which of the two is in {language}?",
    "Is the first or the second recording in {language}?",
    "One of these is in {language}. Which one?",
)
_SAME = (
    "Are both in the same language?",
    "Do the two speakers use the same language?",
)
_SHOWN = 5

Messages = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class _Clip:
    """A transcribed recording. Attributes: its row, the words, the language's name."""

    row: Row
    words: str
    language: str


def talks(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A talk for each row, in the form of our own; clips by the paths that the rows have.

    Args:
        rows: of task `asr`, each with one clip.
    """
    clips = [_clip(row) for row in rows]
    by_language = collections.defaultdict(list)
    for clip in clips:
        by_language[clip.language].append(clip)
    others = {name: [clip for clip in clips if clip.language != name] for name in by_language}
    return [_talk(clip, by_language[clip.language], others[clip.language]) for clip in clips]


def _talk(clip: _Clip, same: Sequence[_Clip], others: Sequence[_Clip]) -> dict[str, Any]:
    # By the row's own name, so that a row's questions stay when others are added.
    random_ = random.Random(clip.row.id)
    kinds: list[Callable] = [_one_turn, _two_turns]
    if others:
        kinds.append(random_.choice((_which, _same_language)))
    return random_.choice(kinds)(random_, clip, same, others)


def _one_turn(random_: random.Random, clip: _Clip, *_) -> dict[str, Any]:
    questions, answer = random_.choice(
        [
            (_SAID, clip.words),
            (_LANGUAGE, f"{clip.language}."),
            (_LANGUAGE_AND_SAID, f"{clip.language}: {clip.words}"),
        ]
    )
    return _row("audio_analysis", [clip], _asked(1, random_.choice(questions), answer))


def _two_turns(random_: random.Random, clip: _Clip, *_) -> dict[str, Any]:
    said, language = (_SAID, clip.words), (_LANGUAGE, f"{clip.language}.")
    then_said, then_language = (_THEN_SAID, clip.words), (_THEN_LANGUAGE, f"{clip.language}.")
    first, second = random_.choice([(said, then_language), (language, then_said)])
    messages = [
        *_asked(1, random_.choice(first[0]), first[1]),
        *_asked(0, random_.choice(second[0]), second[1]),
    ]
    return _row("several_turns", [clip], messages)


def _which(random_: random.Random, clip: _Clip, _, others: Sequence[_Clip]) -> dict[str, Any]:
    """Two recordings, of which one is in the language; what it says is asked for next, or not."""
    pair = [clip, random_.choice(others)]
    random_.shuffle(pair)
    question = random_.choice(_WHICH).format(language=clip.language)
    messages = _asked(2, question, f"The {('first', 'second')[pair.index(clip)]}.")
    if random_.random() < 0.5:
        messages += _asked(0, random_.choice(_THEN_SAID), clip.words)
    return _row("several_clips", pair, messages)


def _same_language(
    random_: random.Random, clip: _Clip, same: Sequence[_Clip], others: Sequence[_Clip]
) -> dict[str, Any]:
    alike = [other for other in same if other is not clip]
    pair = [clip, random_.choice(alike if alike and random_.random() < 0.5 else others)]
    random_.shuffle(pair)
    first, second = (one.language for one in pair)
    if first == second:
        answer = f"Yes, both are in {first}."
    else:
        answer = f"No, the first is in {first} and the second in {second}."
    return _row("several_clips", pair, _asked(2, random_.choice(_SAME), answer))


def _asked(clips: int, question: str, answer: str) -> Messages:
    content: Any = question
    if clips:
        content = [*[{"type": "audio"}] * clips, {"type": "text", "text": question}]
    return [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]


def _clip(row: Row) -> _Clip:
    annotation, _ = stored_annotation(row.task, row.annotation, len(row.paths))
    return _Clip(row, annotation["text"], language_name(annotation["language"]))


def _row(kind: str, clips: Sequence[_Clip], messages: Messages) -> dict[str, Any]:
    """A row of a file of talks; what both recordings' rows say of their source is kept."""
    rows = [clip.row for clip in clips]
    notes = {}
    for field in ("source", "license", "language"):
        said = list(dict.fromkeys(str(row.annotation.get(field) or "") for row in rows))
        if all(said) and (field != "language" or len(said) == 1):
            notes[field] = ", ".join(said)
    audio = [str(row.paths[0]) for row in rows]
    return {"messages": messages, "audio": audio, "kind": kind, **notes, **_parts(rows)}


def _parts(rows: Sequence[Row]) -> dict[str, Any]:
    """Which parts of the recordings are the clips, as a row of talks says it."""
    parts = [row.segments[0] if row.segments else None for row in rows]
    fields: dict[str, list] = {
        "offset": [part and part.begin for part in parts],
        "duration": [part and part.end and round(part.end - part.begin, 6) for part in parts],
        "channel": [list(part.channels) if part and part.channels else None for part in parts],
    }
    return {
        name: values if len(rows) > 1 else values[0]
        for name, values in fields.items()
        if any(value is not None for value in values)
    }


def _write(path: pathlib.Path, made: Sequence[dict[str, Any]]) -> None:
    """Writes talks, whole or not at all; paths are relative to the file."""
    folder = os.path.realpath(path.parent)
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        for row in made:
            audio = [
                os.path.relpath(os.path.join(os.path.realpath(folder_), name), folder)
                for folder_, name in map(os.path.split, row["audio"])
            ]
            file.write(json.dumps({**row, "audio": audio}, ensure_ascii=False) + "\n")
    part.replace(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after one sentence on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m data_pipelines.talks_from_manifest",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--manifest", type=pathlib.Path, required=True, help="JSONL file")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="JSONL file to write")
    given = parser.parse_args(argv)
    try:
        if given.out.exists() and given.out.samefile(given.manifest):
            raise RejectedRecord("--out: is the manifest itself; name another file")
        rows, rejected = manifest.jobs(given.manifest)
        taken = [row for row in rows if row.task == "asr"]
        if not taken:
            raise RejectedRecord(f"{given.manifest}: has no usable row of task asr")
        made = talks(taken)
        _write(given.out, made)
    except (RejectedRecord, OSError) as error:
        print(f"error: {told_of(error, given.out)}", file=sys.stderr)
        return 1
    for rejection in rejected[:_SHOWN]:
        print(f"line {rejection['row']} left out: {rejection['reason']}", file=sys.stderr)
    if len(rejected) > _SHOWN or len(taken) < len(rows):
        print(
            f"left out: {len(rejected)} rows that cannot be used, {len(rows) - len(taken)} of "
            "other tasks",
            file=sys.stderr,
        )
    counts = collections.Counter(row["kind"] for row in made)
    told = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
    print(f"{given.out}: {len(made)} talks ({told})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
