"""The files that the benchmarks' own scorers read, of the answers of an evaluation.

They have the rows of the makers' list that were asked, in its order, with the answer where the
scorer looks for it. A question that failed has an empty answer: the scorers pass over rows without
one, which would leave it out of what they divide by.
"""

import json
import pathlib
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from qwen_audio_jax.evaluation.answer_files import Answered
from qwen_audio_jax.evaluation.asking import digest
from qwen_audio_jax.evaluation.benchmarks import (
    air_bench,
    digest_of,
    manifests,
    mmau,
    mmsu,
    originals,
    voice_bench,
)
from qwen_audio_jax.evaluation.benchmarks.files import Fields, IdOf, rows_by_id
from qwen_audio_jax.evaluation.plan import Asked, Plan
from qwen_audio_jax.evaluation.recordings import answers_by_row


def official_files(plan: Plan, answered: Mapping[str, Answered]) -> Iterator[tuple[str, list[str]]]:
    """(name, texts) of a file for each benchmark that has a scorer of its own.

    Args:
        plan: of the evaluation.
        answered: by key.

    Raises:
        ValueError, OSError: a benchmark's list is not there, or not the one that was asked.
    """
    for benchmark in plan.benchmarks:
        if benchmark.form in OFFICIAL:
            items = [item for item in plan.items if item.benchmark == benchmark.name]
            answers: dict[str, str] = {}
            for item in items:
                answers |= answers_by_row(item, answered)
            suffix = ".json" if OFFICIAL[benchmark.form][2] else ".jsonl"
            yield (
                file_name(benchmark.name, suffix),
                official_texts(benchmark.form, _list_of(benchmark), answers),
            )


def file_name(benchmark: str, suffix: str) -> str:
    """A benchmark's name as that of a file, whatever is in it and however long it is."""
    name = urllib.parse.quote(benchmark, safe=" ")
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}-{digest(benchmark.encode())[:8]}"
    return name + suffix


_LONGEST_NAME = 150
"""Bytes; most file systems take 255."""


def _list_of(benchmark: Asked) -> pathlib.Path:
    path = pathlib.Path(benchmark.path)
    if digest_of(path) != benchmark.digest:
        raise ValueError(
            f"{path}: has changed since the evaluation began, so its rows cannot be joined with "
            "the answers; answer again"
        )
    return path


def official_texts(form: str, path: pathlib.Path, answers: Mapping[str, str]) -> list[str]:
    """The texts that one after another are the file that a form's scorer reads.

    Args:
        form: a key of OFFICIAL.
        path: the makers' list.
        answers: by the ids of the items that were asked; "" of those that failed.

    Raises:
        ValueError: the list cannot be read, or lacks a row that was asked.
    """
    id_of, row_of, is_list = OFFICIAL[form]
    rows = rows_by_id(path, id_of)
    if lacking := answers.keys() - rows.keys():
        raise ValueError(f"{path}: has no row {min(lacking)!r}, which was asked; answer again")
    # In ASCII, since some scorers read files in whatever encoding the machine has.
    texts = [
        json.dumps(row_of(row, answers[name])) for name, row in rows.items() if name in answers
    ]
    if is_list:
        return ["[\n", ",\n".join(texts), "\n]\n"]
    return [text + "\n" for text in texts]


def _qwen2_audio(fields: Fields, answer: str) -> Fields:
    """Of the released Qwen2-Audio scripts, eval_audio/evaluate_*.py."""
    return {
        "gt": fields["gt"],
        "response": answer,
        "source": fields.get("source", ""),
        "audio_path": fields["audio"],
    }


def _air_foundation(fields: Fields, answer: str) -> Fields:
    """Of score_foundation.py, as Inference_Foundation.py writes it: an absent choice is null."""
    before = ("path", "question", "choice_a", "choice_b", "choice_c", "choice_d", "answer_gt")
    return _picked(fields, *before, "task_name", "dataset_name") | {
        "response": answer,
        "uniq_id": fields["uniq_id"],
    }


def _air_chat(fields: Fields, answer: str) -> Fields:
    """Of score_chat.py, as Inference_Chat.py writes it."""
    before = ("meta_info", "question", "answer_gt", "path", "task_name", "dataset_name")
    return _picked(fields, *before) | {"response": answer, "uniq_id": fields["uniq_id"]}


def _mmau(fields: Fields, answer: str) -> Fields:
    """Of evaluation.py, which reads `model_output`; its README says `model_prediction`."""
    return fields | {"model_prediction": answer, "model_output": answer}


def _mmar(fields: Fields, answer: str) -> Fields:
    """Of evaluation.py; the README's earlier version says `model_prediction`."""
    told = {"model_prediction": answer, "thinking_prediction": "", "answer_prediction": answer}
    return fields | told


def _mmsu(fields: Fields, answer: str) -> Fields:
    """Of mmsu_evaluation.py; with the row's own sub-category, where mmsu_inference.py repeats the
    category.
    """
    choices = ("choice_a", "choice_b", "choice_c", "choice_d")
    behind = ("category", "sub-category", "sub-sub-category", "linguistics_sub_discipline")
    audio = fields.get("audio_path", fields.get("audio"))
    return {
        "id": fields["id"],
        "audio_path": audio,
        **_picked(fields, "question", *choices, "answer_gt"),
        "response": answer,
        **_picked(fields, "task_name", *behind),
    }


def _voice_bench(fields: Fields, answer: str) -> Fields:
    """Of evaluate.py, as main.py writes it."""
    kept = {key: value for key, value in fields.items() if key != "audio"}
    return kept | {"response": answer}


def _open_asr(fields: Fields, answer: str) -> Fields:
    """Of the Open ASR leaderboard, as write_manifest in normalizer/eval_utils.py does."""
    return (
        _picked(fields, "audio_filepath", "duration", "time", "text")
        | fields
        | {"pred_text": answer}
    )


def _picked(fields: Fields, *names: str) -> dict[str, Any]:
    return {name: fields.get(name) for name in names}


OFFICIAL: dict[str, tuple[IdOf, Callable[[Fields, str], Fields], bool]] = {
    "originals": (originals.id_of, _qwen2_audio, True),
    "air_foundation": (air_bench.id_of, _air_foundation, False),
    "air_chat": (air_bench.id_of, _air_chat, False),
    "mmau": (mmau.id_of, _mmau, True),
    "mmar": (mmau.id_of, _mmar, True),
    "mmsu": (mmsu.id_of, _mmsu, False),
    "voice_bench": (voice_bench.id_of, _voice_bench, False),
    "nemo": (manifests.nemo_id, _open_asr, False),
}
"""By form: the id of a row's item, the row with the answer to it, and whether the file is one JSON
list, not a row a line.
"""
