"""MMAU (Sakshi et al., 2024) and MMAR (Ma et al., 2025), which names its fields a little otherwise.

Their scorers compare words (`metrics.choices.token_set`) and bring no prompt; this one asks for a
choice and lists them, as is usual. The wording is worth points, so scores under another differ.
"""

import functools
import pathlib
import re
from collections.abc import Sequence

from data_pipelines.records import RejectedRecord
from qwen_audio_jax.evaluation.benchmarks.files import Fields, clips_of, read_rows, text
from qwen_audio_jax.evaluation.benchmarks.item import ELSEWHERE, Item, LeftOut
from qwen_audio_jax.evaluation.benchmarks.questions import about, item, own_id, right_choice

id_of = functools.partial(own_id, "id")

_MMAU = {
    "source": "dataset",
    "modality": "task",
    "category": "category",
    "sub_category": "sub-category",
    "difficulty": "difficulty",
}
# The language is the clip's; question and answer are English in any case.
_MMAR = {
    "source": "source",
    "modality": "modality",
    "category": "category",
    "sub_category": "sub-category",
    "spoken_language": "language",
}

_LETTER = re.compile(r"^\([A-Z]\)\s*")


def read_mmau(path: pathlib.Path) -> tuple[list[Item], list[LeftOut]]:
    """The list of one split. The answers of `test` are withheld: it is asked, and scored by its
    makers, see `item.ELSEWHERE`.

    Raises:
        RejectedRecord: the list cannot be read.
    """
    return read_rows(path, id_of, functools.partial(_item, path, "audio_id", _MMAU))


def read_mmar(path: pathlib.Path) -> tuple[list[Item], list[LeftOut]]:
    """Likewise.

    Raises:
        RejectedRecord: the list cannot be read.
    """
    return read_rows(path, id_of, functools.partial(_item, path, "audio_path", _MMAR))


def _item(path: pathlib.Path, audio: str, names: dict[str, str], name: str, fields: Fields) -> Item:
    choices = fields.get("choices")
    if not isinstance(choices, list) or not all(isinstance(one, str) for one in choices):
        raise RejectedRecord("field 'choices': must be a list of texts")
    listed, question = tuple(choices), text(fields, "question")

    def reordered(order: Sequence[int]) -> str:
        lines = "\n".join(listed[number] for number in order)
        return f"{question}\nSelect one option from the provided choices:\n{lines}"

    prompt = reordered(range(len(listed)))
    annotation = {"question": prompt, "text": "", **about(fields, names)}
    clips = clips_of(path, text(fields, audio))
    if not fields.get("answer"):
        return item(name, clips, prompt, annotation, rule=ELSEWHERE)
    choices, annotation["text"] = _with_answer(fields, choices)
    return item(
        name, clips, prompt, annotation, choices=choices, reordered=reordered, rule="token_set"
    )


def _with_answer(fields: Fields, choices: list[str]) -> tuple[list[str], str]:
    """The choices, the right one as the field `answer` writes it, and that.

    Some answers of MMAU begin with a letter that the choices lack, "(A) Man". Its scorer wants that
    letter in what the model says too, so it stays.
    """
    answer = text(fields, "answer").strip()
    without = answer if answer in map(str.strip, choices) else _LETTER.sub("", answer)
    place = choices.index(right_choice(fields | {"answer": without}, "answer", choices))
    return [*choices[:place], answer, *choices[place + 1 :]], answer
