"""AIR-Bench's two tracks, `Foundation_meta.json` and `Chat_meta.json` (Yang et al., 2024).

As Inference_Foundation.py and Inference_Chat.py of OFA-Sys/AIR-Bench read them: the clips lie below
the list's folder in `{task_name}_{dataset_name}`, whose misspellings are part of the names.
"""

import functools
import pathlib
from typing import Any

from qwen_audio_jax.evaluation.benchmarks.files import Fields, clips_of, read_rows, text
from qwen_audio_jax.evaluation.benchmarks.item import JUDGED, Item, LeftOut
from qwen_audio_jax.evaluation.benchmarks.questions import (
    Clips,
    item,
    lettered_item,
    own_id,
)

id_of = functools.partial(own_id, "uniq_id")

_INSTRUCTION = (
    "Choose the most suitable answer from options A, B, C, and D to respond the question in next "
    "line, you may only choose A or B or C or D."
)
_GROUNDING = "Audio_Grounding"
"""The task whose clips are FLAC files though the list names WAV files."""

CHAT_GROUPS = {
    "speech_QA": "speech",
    "speech_dialogue_QA": "speech",
    "sound_QA": "sound",
    "sound_generation_QA": "sound",
    "music_QA": "music",
    "music_generation_analysis_QA": "music",
    "speech_and_sound_QA": "speech_and_sound",
    "speech_and_music_QA": "speech_and_music",
}
"""What cal_score.py gives a score for. The two of speech and something are the board's "mixed"."""


def read_foundation(path: pathlib.Path) -> tuple[list[Item], list[LeftOut]]:
    """Questions with two to four choices, which score_foundation.py reads by their letter.

    Raises:
        RejectedRecord: the list cannot be read.
    """
    return read_rows(path, id_of, functools.partial(_foundation, path))


def read_chat(path: pathlib.Path) -> tuple[list[Item], list[LeftOut]]:
    """Free questions, whose answers a judge scores, see `item.JUDGED`.

    Raises:
        RejectedRecord: the list cannot be read.
    """
    return read_rows(path, id_of, functools.partial(_chat, path))


def _foundation(path: pathlib.Path, name: str, fields: Fields) -> Item:
    def layout(question: str, choices: str) -> str:
        return f"{_INSTRUCTION}\n{question}\n{choices}"

    clips = _clips(path, fields)
    return lettered_item(name, clips, fields, layout, _about(fields), "air_official")


def _chat(path: pathlib.Path, name: str, fields: Fields) -> Item:
    question = text(fields, "question")
    annotation = {
        "question": question,
        "text": text(fields, "answer_gt"),
        "description": text(fields, "meta_info"),
        **_about(fields),
    }
    if group := CHAT_GROUPS.get(text(fields, "task_name")):
        annotation["group"] = group
    return item(name, _clips(path, fields), question, annotation, rule=JUDGED)


def _about(fields: Fields) -> dict[str, Any]:
    """`sub_category` is what the makers' scripts give a score for."""
    return {
        "source": text(fields, "dataset_name"),
        "category": text(fields, "task_name"),
        "sub_category": _folder(fields),
    }


def _folder(fields: Fields) -> str:
    return f"{text(fields, 'task_name')}_{text(fields, 'dataset_name')}"


def _clips(path: pathlib.Path, fields: Fields) -> Clips:
    name = text(fields, "path")
    if text(fields, "task_name") == _GROUNDING:
        name = name[:-3] + "flac"
    return clips_of(path, f"{_folder(fields)}/{name}")
