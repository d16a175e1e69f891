"""MMSU (Wang et al., 2025): the list that mmsu_inference.py of dingdongwang/MMSU_Bench reads."""

import functools
import pathlib

from qwen_audio_jax.evaluation.benchmarks.files import Fields, clips_of, read_rows, text
from qwen_audio_jax.evaluation.benchmarks.item import Item, LeftOut
from qwen_audio_jax.evaluation.benchmarks.questions import (
    about,
    lettered_item,
    own_id,
)

id_of = functools.partial(own_id, "id")

_INSTRUCTION = (
    "Choose the most suitable answer from options A, B, C, and D to respond the question in next "
    "line, **you should only choose A or B or C or D.** Do not provide any additional explanations "
    "or content."
)
_ABOUT = {"category": "category", "sub_category": "sub-category", "task_name": "task_name"}


def read(path: pathlib.Path) -> tuple[list[Item], list[LeftOut]]:
    """Questions with two to four choices, which mmsu_evaluation.py reads by their letter.

    Raises:
        RejectedRecord: the list cannot be read.
    """
    return read_rows(path, id_of, functools.partial(_item, path))


def _item(path: pathlib.Path, name: str, fields: Fields) -> Item:
    def layout(question: str, choices: str) -> str:
        return f"{_INSTRUCTION}\n\nQuestion: {question}\n\n{choices}"

    clips = clips_of(path, text(fields, "audio_path" if "audio_path" in fields else "audio"))
    return lettered_item(name, clips, fields, layout, about(fields, _ABOUT), "mmsu_official")
