"""What must be the same on every process of a run, as short texts that can be compared."""

import hashlib
import json
import pathlib
from collections.abc import Iterable

import jax
from jax.sharding import Mesh

from data_pipelines.records import INFO_FILE, Corpus
from qwen_audio_jax.checkpoint import run_folder
from qwen_audio_jax.run_config import RunConfig, dotted, flat, to_json

# What a host may have of its own: where its data lies, and what is not for all to do together.
_OWN_KEYS = ("data/root", "data/workers", "compilation_cache", "profile")

_WHOLE, _END = 1 << 24, 1 << 20
"""Bytes up to which a file is read whole, and how many are read at either end of a longer one."""


def of_config(config: RunConfig) -> dict[str, str]:
    """The configuration, key by key, the code, and the JAX that runs it."""
    keys = flat(to_json(config), _OWN_KEYS)
    root = pathlib.Path(__file__).parents[2]
    code = [
        path
        for package in ("qwen_audio_jax", "data_pipelines")
        for path in sorted((root / package).rglob("*.py"))
    ]
    return {
        **{dotted(key): json.dumps(keys[key]) for key in sorted(keys)},
        "the version of jax": jax.__version__,
        "the digest of the code": digest(code),
    }


def of_data(
    config: RunConfig, corpora: dict[str, Corpus], mesh: Mesh, resumed: bool = False
) -> dict[str, str]:
    """The corpora, what training starts from, and the devices."""
    facts = {
        f"the digest of corpus {name!r}": digest(
            [
                corpus.path / INFO_FILE,
                *(corpus.path / f"{split}.index.jsonl" for split in corpus.splits),
                *sorted((corpus.path / "tokenizer").glob("*")),
            ]
        )
        for name, corpus in corpora.items()
    }
    if config.init_from and not resumed:
        folder = run_folder(config.init_from)
        files = [folder / "model.json", *sorted((folder / "tokenizer").glob("*"))]
        facts["the digest of config.init_from"] = digest(files)
    shape = ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    return facts | {
        "what is in the run folder": "a run" if resumed else "none",
        "the mesh": shape,
        "the number of its devices": str(jax.local_device_count()),
    }


def digest(files: Iterable[pathlib.Path]) -> str:
    """Sixteen hexadecimal digits of the files' names, sizes and content.

    Of a file above 16 MiB, only the ends are read.
    """
    total = hashlib.sha256()
    for path in files:
        if not path.is_file():
            continue
        size = path.stat().st_size
        total.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            if size <= _WHOLE:
                total.update(file.read())
            else:
                total.update(file.read(_END))
                file.seek(-_END, 2)
                total.update(file.read())
    return total.hexdigest()[:16]
