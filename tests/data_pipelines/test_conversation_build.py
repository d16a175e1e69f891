"""Corpora of talks, built from end to end."""

import base64
import json

import numpy as np
import pytest
import soundfile

from data_pipelines import build
from data_pipelines.records import Corpus

HEARD = {"type": "audio"}


def talk(*audios, said="<audio>What is it?"):
    answer = {"role": "assistant", "content": "A bell."}
    return {"messages": [{"role": "user", "content": said}, answer], "audios": list(audios)}


@pytest.fixture
def folder(tmp_path):
    times = np.arange(3200) / 16000
    soundfile.write(tmp_path / "a.wav", 0.1 * np.sin(2764 * times), 16000)
    return tmp_path


def write(folder, *rows):
    path = folder / "talks.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def run(folder, path, *flags):
    flags = ("--source=conversations", f"--manifest={path}", "--workers=1", *flags)
    return build.main([*flags, f"--out={folder / 'corpus'}"])


def test_a_corpus_of_talks(folder, capsys):
    """Broken clips of every kind are found out when it is built, and the rest is built."""
    tone = soundfile.read(folder / "a.wav")[0]
    for name, samples in {
        "empty.wav": tone[:0],
        "one.wav": tone[:1],
        "nan.wav": np.where(np.arange(3200) == 7, np.nan, tone),
        "silent.wav": 0 * tone,
    }.items():
        soundfile.write(folder / name, samples, 16000, subtype="FLOAT")
    soundfile.write(folder / "hours.flac", np.zeros(3601 * 1000), 1000)
    (folder / "words.wav").write_text("A bell. " * 200)
    names = ["a.wav", "empty.wav", "one.wav", "nan.wav", "hours.flac", "words.wav", "silent.wav"]
    rows = [talk(name) for name in names]
    rows[2] = talk("a.wav", "one.wav", said="<audio><audio>What are they?")
    wav = base64.b64encode((folder / "a.wav").read_bytes()).decode()
    broken = base64.b64encode(b"A bell. " * 200).decode()
    rows += [talk(wav), talk(broken), talk("a.wav", said="What?"), talk(said="Hello.")]
    assert run(folder, write(folder, *rows)) == 0
    lines = (folder / "corpus" / "rejected.jsonl").read_text().splitlines()
    reasons = {row["row"]: row["reason"] for row in map(json.loads, lines)}
    says = {
        2: "the clip has no samples",
        3: "clip 2 of 2: it is too short",
        4: "not numbers (NaN",
        5: "it lasts 3601.00 s",
        6: "it cannot be read as WAV",
        9: "it cannot be read as WAV",
        10: "<audio> stands 0 times in the messages, and the row lists 1 clip",
    }
    assert sorted(reasons) == sorted(says)
    assert all(part in reasons[number] for number, part in says.items())
    corpus = Corpus(folder / "corpus")
    assert [row.id for row in corpus.index("train")] == ["a-1", "silent-7", "talk-8", "talk-11"]
    assert [len(row.samples) for row in corpus.index("train")] == [1, 1, 1, 0]
    assert corpus.record("train", 2).audio == ((folder / "a.wav").read_bytes(),)
    assert "silent" in (folder / "corpus" / "notes.jsonl").read_text()


def test_flags(folder, capsys):
    row = talk("a.wav", said="What is it?")
    media = folder / "media"
    media.mkdir()
    (folder / "a.wav").rename(media / "a.wav")
    path = write(folder, row)
    assert run(folder, path, f"--media-dir={folder / 'gone'}") == 1
    assert "gone is no folder; name the one of the clips" in capsys.readouterr().err
    assert run(folder, path, f"--media-dir={media}") == 1
    assert "the row lists 1 clip" in capsys.readouterr().err
    flags = (f"--media-dir={media}", "--form=ms_swift", "--unplaced_audio=first")
    assert run(folder, path, "--split=validation", *flags) == 0
    (made,) = Corpus(folder / "corpus").index("validation")
    assert made.annotation["messages"][0]["content"][0] == HEARD


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--source=conversations"], "--source=conversations needs --manifest=FILE"),
        (["--source=conversations", "--manifest=m", "--form=wav"], "invalid choice: 'wav'"),
        (["--source=conversations", "--manifest=m", "--tasks=asr"], "--tasks does not go with"),
        (["--source=manifest", "--manifest=m", "--media-dir=d"], "--media_dir does not go with"),
        (["--source=manifest", "--manifest=m", "--form=auto"], "--form does not go with"),
    ],
)
def test_flags_that_do_not_go_together(flags, says, capsys):
    with pytest.raises(SystemExit):
        build.main(flags)
    assert says in capsys.readouterr().err
