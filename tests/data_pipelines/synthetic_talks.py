"""Conversations of the built-in corpus, made once for all that looks at them, and their parts."""

import functools
import io

import soundfile

from data_pipelines.records import Record
from data_pipelines.sources import synthetic
from qwen_audio_jax.rendering.chat import turns


def talks(split, count, seed=3):
    return [synthetic.make(job) for job in synthetic.Jobs(split, count, seed, ["chat"])]


@functools.cache
def made() -> dict[str, list[Record]]:
    """Talks of both splits."""
    return {"train": talks("train", 400), "validation": talks("validation", 160)}


def of_kind(records, kind):
    return [record for record in records if record.annotation["kind"] == kind]


def asked(records, what):
    """(record, facts of the clips up to that answer) of all answers to one kind of question."""
    for record in records:
        for turn, asks in zip(told(record), record.annotation["asked"], strict=True):
            if asks == what:
                yield record, turn


def told(record):
    """The turns: (written text, facts of the turn's clips, those of all so far, answer)."""
    heard, listed = record.annotation["heard"], []
    for user, assistant in turns(record.annotation["messages"]):
        parts = user["content"]
        new = sum(part["type"] == "audio" for part in parts)
        start = sum(len(turn[1]) for turn in listed)
        text = "".join(part.get("text", "") for part in parts)
        listed.append(
            (text, heard[start : start + new], heard[: start + new], assistant["content"])
        )
    return listed


def waves(record):
    return [soundfile.read(io.BytesIO(audio))[0] for audio in record.audio]
