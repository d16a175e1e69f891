"""The build command, end to end on small generated files."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from data_pipelines import build
from data_pipelines.records import Corpus
from qwen_audio_jax.text.tokenizer import load_tokenizer

ASR = {"task": "asr", "text": "good morning", "language": "en"}


def noise(samples: int, channels: int = 1) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal((samples, channels))


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    soundfile.write(folder / "good.wav", noise(16000), 16000)
    soundfile.write(folder / "slow.flac", noise(8000), 8000)
    soundfile.write(folder / "stereo.ogg", noise(44100, 2), 44100)
    soundfile.write(folder / "small.mp3", noise(16000), 16000)
    soundfile.write(folder / "long.flac", np.zeros(3601 * 1000), 1000)
    soundfile.write(folder / "empty.wav", noise(0), 16000)
    soundfile.write(folder / "nan.wav", noise(16000) * np.nan, 16000, subtype="FLOAT")
    (folder / "text.wav").write_text("good morning\n" * 50)
    whole = (folder / "slow.flac").read_bytes()
    (folder / "cut.flac").write_bytes(whole[: len(whole) // 2])
    return folder


def write_manifest(clips, rows, name="train.jsonl"):
    path = clips / name
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def good_rows(count: int = 1):
    names = ["good.wav", "slow.flac", "stereo.ogg", "small.mp3"]
    return [{"audio": names[i % 4], **ASR, "text": f"good morning {i}"} for i in range(count)]


def run(*arguments, out, workers=1) -> int:
    return build.main([*map(str, arguments), f"--out={out}", f"--workers={workers}"])


def contents(folder) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_train_then_validation(clips, tmp_path, capsys):
    out = tmp_path / "deep" / "corpus"
    path = write_manifest(clips, good_rows(4))
    assert run("--source=manifest", f"--manifest={path}", out=out) == 0
    printed = capsys.readouterr()
    assert "asr" in printed.out
    assert "rejected" not in printed.err
    vocabulary = (out / "tokenizer/tokenizer.model").read_bytes()
    path = write_manifest(clips, [{"audio": "good.wav", **ASR, "text": "ß"}], "dev.jsonl")
    assert run("--source=manifest", f"--manifest={path}", "--split=validation", out=out) == 0
    corpus = Corpus(out)
    assert corpus.splits == ("train", "validation")
    assert [row.samples for row in corpus.index("train")] == [(16000,)] * 4
    assert corpus.record("train", 1).audio == ((clips / "slow.flac").read_bytes(),)
    assert (out / "tokenizer/tokenizer.model").read_bytes() == vocabulary
    tokenizer = load_tokenizer(out / "tokenizer")
    assert tokenizer.decode(tokenizer.encode("good morning 大")) == "good morning 大"


def test_any_number_of_workers_gives_the_same_bytes(clips, tmp_path):
    rows = [*good_rows(40), {"audio": "cut.flac", **ASR}, *good_rows(9)]
    command = [sys.executable, "-m", "data_pipelines.build", "--source=manifest"]
    command.append(f"--manifest={write_manifest(clips, rows)}")
    for workers in (1, 2):  # in processes of their own, as each has its own hash seed
        out = tmp_path / f"by{workers}"
        subprocess.run([*command, f"--out={out}", f"--workers={workers}"], check=True)
    assert contents(tmp_path / "by1") == contents(tmp_path / "by2")


def test_bad_rows_are_listed_and_the_rest_is_built(clips, tmp_path, capsys):
    bad = {
        2: ({"audio": "long.flac", **ASR}, "3601.00 s"),
        3: ({"audio": "empty.wav", **ASR}, "no samples"),
        4: ({"audio": "nan.wav", **ASR}, "not numbers"),
        5: ({"audio": "text.wav", **ASR}, "cannot be read"),
        6: ({"audio": "cut.flac", **ASR}, "broken off"),
        7: ({"audio": "gone.wav", **ASR}, "is not there"),
        8: ({"audio": "good.wav", **ASR, "task": "asrr"}, "did you mean 'asr'?"),
        9: ({"audio": "good.wav", "task": "asr", "language": "en"}, "field 'text'"),
    }
    rows = [*good_rows(), *(row for row, _ in bad.values()), *good_rows()]
    out = tmp_path / "corpus"
    path = write_manifest(clips, rows)
    assert run("--source=manifest", f"--manifest={path}", out=out, workers=2) == 0
    listed = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert [row["row"] for row in listed] == list(bad)
    for row, (_, says) in zip(listed, bad.values(), strict=True):
        assert says in row["reason"]
    assert [row.id for row in Corpus(out).index("train")] == ["good-1", "good-10"]
    message = capsys.readouterr().err
    assert "train: 8 rows rejected, listed in" in message
    assert "line 2: field 'audio': it lasts 3601.00 s" in message


def test_rejections_of_another_split_are_kept(clips, tmp_path):
    out = tmp_path / "corpus"
    path = write_manifest(clips, [*good_rows(), {"audio": "cut.flac", **ASR}])
    for split in ("train", "validation"):
        arguments = ("--source=manifest", f"--manifest={path}", f"--split={split}")
        assert run(*arguments, out=out) == 0
        assert run(*arguments, "--overwrite", out=out) == 0
    listed = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert [(row["split"], row["row"]) for row in listed] == [("train", 2), ("validation", 2)]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (None, "no such file"),
        ([], "is empty"),
        ([{"audio": "gone.wav", **ASR}], "no usable row for the train split"),
        ([{"audio": "text.wav", **ASR}], "no usable row for the train split"),
    ],
)
def test_nothing_usable(clips, tmp_path, capsys, rows, says):
    path = clips / "missing.jsonl" if rows is None else write_manifest(clips, rows)
    before = sorted(tmp_path.rglob("*"))
    assert run("--source=manifest", f"--manifest={path}", out=tmp_path / "corpus") == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert says in message
    assert message.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_split_is_not_replaced_unasked(clips, tmp_path, capsys):
    out = tmp_path / "corpus"
    path = write_manifest(clips, good_rows())
    arguments = ("--source=manifest", f"--manifest={path}")
    assert run(*arguments, out=out) == 0
    before = contents(out)
    assert run(*arguments, out=out) == 1
    assert "choose another --out or pass --overwrite" in capsys.readouterr().err
    assert contents(out) == before
    write_manifest(clips, good_rows(3))
    assert run(*arguments, "--overwrite", out=out) == 0
    assert len(Corpus(out).index("train")) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["--source=manifest"],
        ["--source=synthetic", "--split=train"],
        ["--source=manifest", "--manifest=m", "--seed=1"],
        ["--source=nowhere"],
        ["--source=synthetic", "--train_examples=0"],
        ["--source=synthetic", "--hours=0"],
        ["--source=synthetic", "--runner=direct", "--workers=2"],
        ["--source=synthetic", "--beam_args=--streaming"],
        ["--source=synthetic", "--hours=1", "--train_examples=9"],
        ["--source=librispeech", "--root=.", "--hours=1"],
    ],
)
def test_misused_flags(arguments, tmp_path):
    with pytest.raises(SystemExit) as stop:
        run(*arguments, out=tmp_path / "corpus")
    assert stop.value.code == 2


def test_the_built_in_corpus_by_hours_and_tasks(tmp_path, capsys):
    """As much of it as was asked for, of the tasks that were asked for."""
    tasks = "music_recognition,vocal_sound_classification"
    arguments = ("--source=synthetic", f"--tasks={tasks}", "--validation_examples=2")
    assert run(*arguments, "--hours=0.02", out=tmp_path / "corpus") == 0
    index = Corpus(tmp_path / "corpus").index("train")
    assert {row.task for row in index} == set(tasks.split(","))
    assert sum(sum(row.samples) for row in index) / 16000 == pytest.approx(72, rel=0.1)
    capsys.readouterr()
    assert run("--source=synthetic", "--tasks=asr,telepathy", out=tmp_path / "other") == 1
    assert "'telepathy' is none of asr, note_analysis" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_command_line(clips, tmp_path):
    command = [sys.executable, "-m", "data_pipelines.build"]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    assert "speaker_verification" in shown.stdout
    arguments = ["--source=manifest", "--manifest=gone.jsonl", f"--out={tmp_path / 'corpus'}"]
    failed = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    path = write_manifest(clips, good_rows(3))
    script = (
        "import sys\nfrom data_pipelines import build\n"
        f"build.build_corpus({str(tmp_path / 'corpus')!r}, "
        f"build.manifest_work({str(path)!r}, 'train'), workers=1)\n"
        "assert 'jax' not in sys.modules and 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ)
