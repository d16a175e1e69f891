"""The lists of the released evaluation scripts.

Qwen-Audio's have `audio`, `gt` and `source`, and the set tells task, language and limit;
Qwen2-Audio's have a `prompt` too.
"""

import dataclasses
import functools
import pathlib
import re
from typing import Any

from data_pipelines.records import RejectedRecord
from qwen_audio_jax.evaluation.benchmarks.files import Fields, clips_of, read_rows, text
from qwen_audio_jax.evaluation.benchmarks.item import LONGEST, Item, LeftOut
from qwen_audio_jax.rendering.language_codes import language_code
from qwen_audio_jax.rendering.spans import AUDIO_TAGS, Span
from qwen_audio_jax.tasks import KINDS


@dataclasses.dataclass(frozen=True)
class Set:
    """One of their sets.

    Attributes:
        task: of its rows.
        limit: tokens of an answer in Qwen-Audio's script; Qwen2-Audio's always has 256.
        language: of its clips where the script fixes it.
    """

    task: str
    limit: int = LONGEST
    language: str = ""


SETS = {
    "librispeech": Set("asr", language="en"),
    "aishell1": Set("asr", language="zh"),
    "aishell2": Set("asr", language="zh"),
    "cv15_asr_en": Set("asr", language="en"),
    "cv15_asr_zh": Set("asr", language="zh"),
    "cv15_asr_yue": Set("asr", language="yue"),
    "cv15_asr_fr": Set("asr", language="fr"),
    "fleurs_asr_zh": Set("asr", language="zh"),
    "covost2": Set("speech_translation"),
    "clotho": Set("audio_captioning", 30),
    "industrial_srwt": Set("word_timestamps", language="zh"),
    "tut2017": Set("acoustic_scene_classification", 10),
    "cochlscene": Set("acoustic_scene_classification", 10),
    "meld": Set("emotion_recognition", 4),
    "clothoaqa": Set("audio_question_answering", 4),
    "vocalsound": Set("vocal_sound_classification", 4),
    "nsynth": Set("note_analysis", 30),
}
"""By the beginning of the file's name, without `_eval`."""

_TAG = re.compile(r"(<\|[^|<>]+\|>)")


def read(path: pathlib.Path, name: str = "") -> tuple[list[Item], list[LeftOut]]:
    """Either form.

    Args:
        path: the list.
        name: what the user calls it: names the set, if the file's name does not.

    Raises:
        RejectedRecord: it cannot be read, or is none of the sets.
    """
    return read_rows(path, id_of, functools.partial(_item, path, SETS[set_name(path, name)]))


def id_of(number: int, fields: Fields) -> str:
    """The audio file's stem and the row's number. Raises RejectedRecord: no audio."""
    return f"{pathlib.PurePath(text(fields, 'audio')).stem}-{number}"


def set_name(path: pathlib.Path, name: str = "") -> str:
    """Which of SETS a list is. Raises RejectedRecord: none."""
    for called in (name.lower(), path.stem.lower()):
        known = [key for key in SETS if called.startswith(key)]
        if known:
            return max(known, key=len)
    raise RejectedRecord(
        f"{path}: its rows are of the released scripts, whose set tells the task; call the "
        f"benchmark by one of these names: {', '.join(SETS)}"
    )


def _item(path: pathlib.Path, of: Set, name: str, fields: Fields) -> Item:
    annotation = _labels(of, fields)
    source = fields.get("source")
    if isinstance(source, str):
        annotation["source"] = source
    if of.language:
        annotation["language"] = of.language
    spans = _spans(text(fields, "prompt")) if fields.get("prompt") is not None else ()
    limit = LONGEST if spans else of.limit
    clips = clips_of(path, text(fields, "audio"))
    return Item(name, of.task, annotation, clips, spans, limit=limit)


def _labels(of: Set, fields: Fields) -> dict[str, Any]:
    """The annotation that `gt` is the label of."""
    truth = fields.get("gt")
    if of.task == "audio_captioning":
        captions = [truth] if isinstance(truth, str) else truth
        if not isinstance(captions, list) or not all(isinstance(one, str) for one in captions):
            raise RejectedRecord("field 'gt': must be a caption or a list of captions")
        return {"text": captions}
    truth = text(fields, "gt")
    if of.task == "audio_question_answering":
        return {"text": truth, "question": text(fields, "question")}
    if of.task == "speech_translation":
        # As the script reads it: ..._SPEECH_TEXT_SPLIT.
        parts = text(fields, "source").split("_")
        if len(parts) < 3:
            raise RejectedRecord("field 'source': must end in the languages, as covost2_en_de_test")
        try:
            languages = [language_code(part) for part in parts[-3:-1]]
        except ValueError as error:
            raise RejectedRecord(
                f"field 'source': must end in the languages, as covost2_en_de_test; {error}"
            ) from None
        return {"text": truth, "language": languages[0], "target_language": languages[1]}
    if of.task in ("word_timestamps", "note_analysis"):
        labels = KINDS[of.task].parse(truth)
        if labels in ({}, {"words": []}):
            raise RejectedRecord(f"field 'gt': is no label of {of.task!r}, see docs/tasks.md")
        return labels
    return {"text": truth}


def _spans(prompt: str) -> tuple[Span, ...]:
    """A prompt as Qwen2-Audio's scripts complete it: they put `<|audio_bos|><|AUDIO|><|audio_eos|>`
    in front. One that has these itself is complete.
    """
    whole = "".join(AUDIO_TAGS["qwen2_audio"])
    before, clip, behind = prompt.partition(whole)
    if not clip:
        before, behind = "", prompt
    if whole in behind:
        raise RejectedRecord(f"field 'prompt': must not have {whole} twice")
    if not (before + behind).strip():
        raise RejectedRecord(
            "field 'prompt': asks nothing; write what is asked, or leave the field out to ask in "
            "the task's own way"
        )
    return (*_tagged(before), Span(clip=0), *_tagged(behind))


def _tagged(text: str) -> list[Span]:
    return [
        Span(tag=part) if _TAG.fullmatch(part) else Span(text=part)
        for part in _TAG.split(text)
        if part
    ]
