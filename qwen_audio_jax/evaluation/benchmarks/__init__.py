"""Benchmarks as their makers publish them: one short reader a form."""

import hashlib
import pathlib
from collections.abc import Callable

from data_pipelines.records import INFO_FILE, RejectedRecord
from qwen_audio_jax.evaluation.benchmarks import (
    air_bench,
    corpus,
    manifests,
    mmau,
    mmsu,
    originals,
    voice_bench,
)
from qwen_audio_jax.evaluation.benchmarks.files import Fields, first_row
from qwen_audio_jax.evaluation.benchmarks.item import (
    ELSEWHERE,
    JUDGED,
    LONGEST,
    REFUSALS,
    Benchmark,
    Item,
    LeftOut,
)

__all__ = [
    "ELSEWHERE",
    "FORMS",
    "JUDGED",
    "LONGEST",
    "REFUSALS",
    "Benchmark",
    "Item",
    "LeftOut",
    "digest_of",
    "form_of",
    "open_benchmark",
]

FORMS = {
    "corpus": lambda path, name: corpus.read(path),
    "manifest": lambda path, name: manifests.read(path),
    "nemo": lambda path, name: manifests.read_nemo(path),
    "originals": originals.read,
    "air_foundation": lambda path, name: air_bench.read_foundation(path),
    "air_chat": lambda path, name: air_bench.read_chat(path),
    "mmau": lambda path, name: mmau.read_mmau(path),
    "mmar": lambda path, name: mmau.read_mmar(path),
    "mmsu": lambda path, name: mmsu.read(path),
    "voice_bench": voice_bench.read,
}
"""By name: the function (path, name) -> (items, left out) that reads a form."""

_TELLING: tuple[tuple[str, Callable[[Fields], bool]], ...] = (
    ("manifest", lambda row: {"task"} <= row.keys() and ("audio" in row or "text" in row)),
    ("nemo", lambda row: {"audio_filepath", "text"} <= row.keys()),
    ("originals", lambda row: {"audio", "gt"} <= row.keys()),
    ("air_foundation", lambda row: {"choice_a", "answer_gt", "dataset_name"} <= row.keys()),
    ("air_chat", lambda row: {"meta_info", "answer_gt", "dataset_name"} <= row.keys()),
    ("mmau", lambda row: {"audio_id", "choices"} <= row.keys()),
    ("mmar", lambda row: {"audio_path", "choices"} <= row.keys()),
    ("mmsu", lambda row: {"choice_a", "answer_gt"} <= row.keys() and "dataset_name" not in row),
    (
        "voice_bench",
        lambda row: {"audio", "prompt"} <= row.keys() and not {"gt", "task"} & row.keys(),
    ),
)
"""How the first row of a list tells its form."""


def open_benchmark(name: str, path: pathlib.Path) -> Benchmark:
    """Reads a benchmark, whatever its form.

    Args:
        name: what the user calls it.
        path: a corpus folder, or a list.

    Raises:
        ValueError, OSError: one sentence that names the file and the mend.
    """
    form = form_of(path)
    items, left_out = FORMS[form](path, name)
    if not items:
        why = f"; the first row: {left_out[0].reason}" if left_out else ""
        raise RejectedRecord(f"{path}: has nothing that can be asked{why}")
    return Benchmark(name, form, path, digest_of(path), items, left_out)


def form_of(path: pathlib.Path) -> str:
    """A key of FORMS. Raises RejectedRecord or FileNotFoundError: none."""
    if path.is_dir():
        if (path / INFO_FILE).is_file():
            return "corpus"
        raise RejectedRecord(
            f"{path}: is a folder and no corpus; give the benchmark's list, a .json or .jsonl file"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        row = first_row(path)
    except RejectedRecord as error:
        said = str(error)
        raise RejectedRecord(
            said if said.startswith(str(path)) else f"{path}: its first row {said}"
        ) from None
    if not row:
        raise RejectedRecord(f"{path}: is empty, or its first row is no JSON object")
    for form, tells in _TELLING:
        if tells(row):
            return form
    fields = ", ".join(map(repr, row))
    raise RejectedRecord(
        f"{path}: is of no form that is known; its first row has the fields {fields}. "
        "docs/evaluation.md lists the forms"
    )


def digest_of(path: pathlib.Path) -> str:
    """Which version a benchmark is: of the bytes of its list, or of a corpus's indexes, which name
    each record and its labels. Raises OSError.
    """
    files = sorted(path.glob("*.index.jsonl")) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
