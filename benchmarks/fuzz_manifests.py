"""Whether any manifest breaks a build: each is built, or refused in a sentence.

    python benchmarks/fuzz_manifests.py --manifests=2000

Makes manifests of all tasks over a few tiny clips and damages them: wrong types and ranges, blanks
and odd characters, fields missing, misspelt or there twice, odd languages, paths and times, deep
nesting, broken JSON, other encodings. Builds each in this process and prints how many were built,
how many were refused whole, how many rows were rejected, and how many defects there are, each
named: a traceback, a build that hangs, a reason that is no sentence; and of what was built an index
that is no strict JSON, a record that cannot be rendered in either conditioning, a label that is not
read back from the exact answer, or one that would be mended again. Exits with 1 if there is any.
"""

import argparse
import contextlib
import copy
import io
import json
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import tempfile
import traceback
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

from data_pipelines import build
from data_pipelines.labels import stored_annotation
from data_pipelines.records import Corpus
from qwen_audio_jax.rendering import render, tokenize
from qwen_audio_jax.tasks import CONVERSATIONS, KINDS
from qwen_audio_jax.text.tokenizer import load_tokenizer

SECONDS = 4.0
"""Of each clip: as long as the latest time of the tasks' examples."""
HANGS = 60
"""Seconds after which a build counts as one that hangs."""
SAID_BY_THE_PROMPT = {"language", "target_language", "question", "phrase"}

_ERROR = re.compile(r"\b\w*(Error|Exception)\(|Traceback|<class '|object at 0x")

NASTY: list[Any] = [
    None, True, False, 0, -1, 1, 42, 60.0, 3.5, -0.0, 1e308, 10**30, 10**400, [], {}, [[]], [None],
    {"a": 1}, "", " ", "\t\n", "\u00a0", "\u200b", "\ufeff", "\u3164", "\0", "\x1b[31m", "\u2028",
    "\u202e", "e\u0301", "\U0001f469\u200d\U0001f680", "<|en|>", "<|0.50|>", "<|", "|>", "<", ">",
    '"', "\\", ",", "'", "{text}", "{0}", "%s", "a" * 3000, "word " * 500, "NaN", "null", "-", "42",
    ["a", "b"], ["a", ""], ["a", 1], {"word": "a"}, "大きい", "\ud83d", " a", "a ", "a\u200b",
]  # fmt: skip
LANGUAGES = """en EN English en-US zh-CN zh-HK cmn iw eng en,fr 3 sil itn caption event 0.00
    transcribe endoftext unknown zh_tr und xyz jp Deutsch x-mine en_de <|en|> EN-us- a"""
TIMES = [-1, -0.0, 0, 0.005, 3.999, 4, 4.05, 4.1, 4.2, 30, 100, 500, 3600, 3601, 1e9, 1e308, "0.5"]
PATHS = [
    "a.wav", "b.flac", "caf\u00e9.wav", "cafe\u0301.wav", "gone.wav", "folder", "fifo", "link",
    "round", "/dev/null", "https://a.org/b.wav", "s3://b/c", "file:///a", "../a.wav", "./a.wav",
    "a.wav/", "a" * 5000, "a\0.wav", "~/a.wav", "C:\\a.wav", "text.wav", "empty.wav", "", " ",
    "/proc/self/mem", "a.wav#t=1", "a.wav ",
]  # fmt: skip
NAMES = """audio task id text language target_language lang langauge Language transcript sentence
    audio_filepath words Words word start end instrument qualities qualites license source n 0 text_
    self format"""


def write_clips(folder: pathlib.Path) -> None:
    """Clips and what is none, by the names in PATHS."""
    clip = 0.1 * np.sin(np.arange(round(8000 * SECONDS)) / 5)
    for name in ("a.wav", "b.flac", unicodedata.normalize("NFD", "café.wav")):
        soundfile.write(folder / name, clip, 8000)
    soundfile.write(folder / "empty.wav", clip[:0], 8000)
    (folder / "text.wav").write_text("good morning\n")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    (folder / "link").symlink_to("gone")
    (folder / "round").symlink_to("round")


def base_row(rng: random.Random) -> dict[str, Any]:
    """A row as it should be."""
    task = rng.choice(list(KINDS))
    count = 1 if KINDS[task].clips is None else KINDS[task].clips  # the example talk has one
    clips = ["a.wav", "b.flac"][:count]
    audio = {"audio": clips[0] if len(clips) == 1 else clips} if clips else {}
    return {**audio, "task": task, **copy.deepcopy(KINDS[task].example)}


def _places(value: Any, levels: int = 4) -> Iterator[tuple[Any, Any]]:
    """(list or object, key) of what is in a row."""
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if levels and isinstance(part, dict | list):
            yield from _places(part, levels - 1)


def _place(
    row: dict[str, Any], rng: random.Random, fits: Callable[[Any, Any], bool]
) -> tuple[Any, Any]:
    found = [(parent, key) for parent, key in _places(row) if fits(parent, key)]
    return rng.choice(found or [({"nothing": "like it"}, "nothing")])


def _anything(parent: Any, key: Any) -> bool:
    return True


def _replace(row: dict[str, Any], rng: random.Random) -> None:
    parent, key = _place(row, rng, _anything)
    parent[key] = rng.choice(NASTY)


def _language(row: dict[str, Any], rng: random.Random) -> None:
    row[rng.choice(["language", "target_language"])] = rng.choice(LANGUAGES.split())


def _path(row: dict[str, Any], rng: random.Random) -> None:
    row["audio"] = rng.choice([rng.choice(PATHS), [rng.choice(PATHS), "a.wav"]])


def _time(row: dict[str, Any], rng: random.Random) -> None:
    parent, key = _place(row, rng, lambda _, key: key in ("start", "end"))
    parent[key] = rng.choice(TIMES)


def _delete(row: dict[str, Any], rng: random.Random) -> None:
    parent, key = _place(row, rng, _anything)
    parent.pop(key)


def _rename(row: dict[str, Any], rng: random.Random) -> None:
    parent, key = _place(row, rng, lambda parent, _: isinstance(parent, dict))
    parent[rng.choice(NAMES.split())] = parent.pop(key)


def _add(row: dict[str, Any], rng: random.Random) -> None:
    row[rng.choice(NAMES.split())] = rng.choice(NASTY)


def _surround(row: dict[str, Any], rng: random.Random) -> None:
    parent, key = _place(row, rng, lambda parent, key: isinstance(parent[key], str))
    end = rng.choice([" ", "\n", "\u00a0", "\u200b", "<|en|>", '"', ",", "<", "|>", "\\"])
    parent[key] = rng.choice([end, ""]) + parent[key] + rng.choice([end, ""])


def _nest(row: dict[str, Any], rng: random.Random) -> None:
    value: Any = "x"
    for _ in range(rng.choice([5, 90, 101, 400, 900, 3000])):
        value = [value] if rng.random() < 0.5 else {"a": value}
    row[rng.choice(["n", "text", "words"])] = value


def _repeat(row: dict[str, Any], rng: random.Random) -> None:
    parent, key = _place(row, rng, lambda parent, key: isinstance(parent[key], list))
    parent[key] = parent[key] * rng.choice([0, 2, 200])


def _identify(row: dict[str, Any], rng: random.Random) -> None:
    row["id"] = rng.choice(["x", 7, *NASTY])


CHANGES = (
    *(_replace, _language, _path, _time, _delete, _rename, _add, _surround, _nest, _repeat),
    _identify,
)


def damage_row(row: dict[str, Any], rng: random.Random) -> None:
    """Changes something in most rows."""
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        rng.choice(CHANGES)(row, rng)


def written(row: dict[str, Any], rng: random.Random) -> str:
    """The row as a line, at times one that is no good JSON."""
    try:
        text = json.dumps(row, ensure_ascii=rng.random() < 0.5)
    except RecursionError:
        return "[" * 3000 + "]" * 3000
    kind = rng.randrange(12)
    at = rng.randrange(len(text))
    if kind == 0:
        return text[:at] + rng.choice('{}[]",:\\\x00\u2028 09eN-') + text[at + rng.randrange(2) :]
    if kind == 1:
        return text[:at]
    if kind == 2:
        number = rng.choice(
            ["1e999", "-1e999", "NaN", "Infinity", "9" * 400, "9" * 6000, "01", "1."]
        )
        return re.sub(r"(?<=: )[0-9][0-9.]*", number, text, count=1) if rng.random() < 0.5 else (
            text[:-1] + f', "n": {number}}}'
        )  # fmt: skip
    if kind == 3:
        return text[:-1] + ', "text": "again", "audio": "b.flac"}'
    return text


def damaged_file(lines: list[str], rng: random.Random) -> bytes:
    """The manifest's bytes, at times in another encoding or form."""
    text = "\n".join(lines) + "\n"
    data = text.encode("utf-8", "surrogatepass")
    kind = rng.randrange(24)
    if kind == 0:
        return text.encode("utf-16", "surrogatepass")
    if kind == 1:
        return text.encode("latin-1", "replace")
    if kind == 2:
        return b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")
    if kind == 3:
        return b"[" + data.replace(b"\n", b",") + b"]"
    if kind == 4:
        return bytes(rng.randrange(256) if rng.random() < 0.01 else byte for byte in data)
    if kind == 5:
        return data[: rng.randrange(len(data))]
    if kind == 6:
        return data.replace(b"\n", b"\n\n  \n\0\n")
    return data


def build_one(folder: pathlib.Path, data: bytes, split: str) -> tuple[int, str]:
    """Builds a manifest; the exit status and what was said."""

    def hangs(*_) -> None:
        raise TimeoutError(f"no end after {HANGS} s")

    (folder / "m.jsonl").write_bytes(data)
    said = io.StringIO()
    signal.signal(signal.SIGALRM, hangs)
    signal.alarm(HANGS)
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            flags = [f"--manifest={folder / 'm.jsonl'}", f"--out={folder / 'corpus'}"]
            status = build.main(["--source=manifest", "--workers=1", f"--split={split}", *flags])
    finally:
        signal.alarm(0)
    return status, said.getvalue()


def _strict(line: str) -> Any:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} in {line[:200]}")

    value = json.loads(line, parse_constant=refuse)
    json.dumps(value, allow_nan=False)
    return value


def check_built(folder: pathlib.Path, split: str) -> tuple[int, int]:
    """Records and rejected rows of what was built. Raises AssertionError with a defect."""
    corpus = Corpus(folder / "corpus")
    lines = (folder / "corpus" / f"{split}.index.jsonl").read_text(encoding="utf-8").split("\n")
    stored = [_strict(line) for line in lines if line]
    listed = (folder / "corpus" / "rejected.jsonl").read_text(encoding="utf-8").split("\n")
    rejected = [_strict(line) for line in listed if line]
    for row in rejected:
        reason = row["reason"]
        assert not _ERROR.search(reason), reason
        assert "\n" not in reason, reason
        assert len(reason) < 1000, f"{len(reason)} characters: {reason[:200]}"
    tokenizer = load_tokenizer(folder / "corpus" / "tokenizer") if split == "train" else None
    for number, row in enumerate(stored):
        task, annotation = row["task"], row["annotation"]
        assert corpus.record(split, number).annotation == annotation, annotation
        again = stored_annotation(task, annotation, len(row["samples"]))
        assert again == (annotation, ()), annotation
        for conditioning in ("tags", "prompts"):
            prompt, answer = render(task, annotation, conditioning)
            _check_read_back(task, annotation, "".join(s.tag or s.text for s in answer))
            if tokenizer is not None:
                clips = [3] * len(row["samples"])
                tokenize([*prompt, *answer], tokenizer, "qwen_audio", clips)
    return len(stored), len(rejected)


def _check_read_back(task: str, annotation: dict[str, Any], answer: str) -> None:
    if task in CONVERSATIONS or not KINDS[task].metric:
        return
    read = KINDS[task].parse(answer)
    for field in {*KINDS[task].fields, *KINDS[task].optional} - SAID_BY_THE_PROMPT:
        told = annotation.get(field)
        if isinstance(told, list) and told and isinstance(told[0], dict):
            keys = read[field][0].keys() if read.get(field) else ()
            told = [{key: _rounded(unit[key]) for key in keys} for unit in told]
        assert (read.get(field) or None) == (told or None), f"{field}: {told} read as {read}"


def _rounded(value: Any) -> Any:
    return value if isinstance(value, str) else round(value, 2)


def fuzz(count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Builds `count` manifests; what came of them, and the defects."""
    rng = random.Random(seed)
    counts: Counter[str] = Counter()
    defects: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        write_clips(folder)
        before = {path.name for path in folder.iterdir()} | {"m.jsonl", "corpus"}
        for number in range(count):
            rows = [base_row(rng) for _ in range(rng.randint(1, 8))]
            for row in rows:
                damage_row(row, rng)
            data = damaged_file([written(row, rng) for row in rows], rng)
            split = rng.choice(["train", "train", "validation"])
            try:
                status, said = build_one(folder, data, split)
                assert not _ERROR.search(said), said
                if status == 0:
                    records, rejected = check_built(folder, split)
                    counts += Counter({"built": 1, "records": records, "rows rejected": rejected})
                else:
                    assert status == 1, f"exit status {status}"
                    assert said.startswith("error: "), said
                    assert said.count("\n") == 1, said
                    counts["refused whole"] += 1
                left = {path.name for path in folder.iterdir()} - before
                assert not left, f"left behind: {left}"
            except (Exception, SystemExit) as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                file = pathlib.Path(where.filename).name
                defects.append(
                    f"{number}: {type(error).__name__} at {file}:{where.lineno}: {error}"
                )
            for path in folder.iterdir():
                if path.name not in before or path.name == "corpus":
                    shutil.rmtree(path)
    return counts, defects


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--manifests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    counts, defects = fuzz(given.manifests, given.seed)
    table = Table(title=f"{given.manifests:,} damaged manifests")
    table.add_column("what became of them")
    table.add_column("number", justify="right")
    for name in ("built", "refused whole", "records", "rows rejected"):
        table.add_row(name, f"{counts[name]:,}")
    table.add_row("defects", f"{len(defects):,}")
    Console().print(table)
    for defect in defects[:20]:
        print(defect[:600], file=sys.stderr)
    return min(len(defects), 1)


if __name__ == "__main__":
    sys.exit(main())
