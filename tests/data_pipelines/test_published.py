"""Published corpora: miniatures in their real layout become the records they should."""

import json
import pathlib

import numpy as np
import pytest
import soundfile

from data_pipelines import build
from data_pipelines.records import Corpus, RejectedRecord
from data_pipelines.sources import published
from qwen_audio_jax.tasks import TASKS, check_annotation


def tone(path: pathlib.Path, seconds: float = 0.1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.1 * np.sin(np.arange(int(16000 * seconds)) * len(path.stem) / 20)
    soundfile.write(path, wave, 16000)


def text(path: pathlib.Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def librispeech(root: pathlib.Path) -> None:
    text(
        root / "SPEAKERS.TXT",
        ";ID  |SEX| SUBSET           |MINUTES| NAME",
        "103  | F | train-clean-100  | 25.03 | Karen Savage",
        "84   | M | dev-clean        | 8.02  | Christie | Nowak",
    )
    for part, chapter, lines in (
        ("train-clean-100", "103/1240", ["CHAPTER ONE MISSUS RACHEL LYNDE", "THAT HAD ITS SOURCE"]),
        ("dev-clean", "84/121123", ["GO DO YOU HEAR"]),
        ("test-clean", "61/70968", ["HE BEGAN A CONFUSED COMPLAINT"]),
    ):
        folder, stem = root / part / chapter, chapter.replace("/", "-")
        names = [f"{stem}-{i:04d}" for i in range(len(lines))]
        text(folder / f"{stem}.trans.txt", *map(" ".join, zip(names, lines, strict=True)))
        for name in names:
            tone(folder / f"{name}.flac")


def aishell1(root: pathlib.Path) -> None:
    text(
        root / "transcript" / "aishell_transcript_v0.8.txt",
        "BAC009S0002W0122 而 对 楼市 成交 抑制 作用 最 大 的 限 购",
        "BAC009S0724W0121 广州市 房地产 中介 协会 分析",
        "BAC009S0764W0121 甚至 出现 交易 几乎 停滞 的 情况",
    )
    for name in ("train/S0002/BAC009S0002W0122", "train/S0002/BAC009S0002W0999"):
        tone(root / "wav" / f"{name}.wav")
    tone(root / "wav" / "dev" / "S0724" / "BAC009S0724W0121.wav")
    tone(root / "wav" / "test" / "S0764" / "BAC009S0764W0121.wav")


def speech_commands(root: pathlib.Path) -> None:
    text(root / "validation_list.txt", "bed/026290a7_nohash_0.wav")
    text(root / "testing_list.txt", "bed/0c40e715_nohash_0.wav")
    for name in (
        "bed/00176480_nohash_0",
        "bed/026290a7_nohash_0",
        "bed/0c40e715_nohash_0",
        "cat/00176480_nohash_0",
        "_background_noise_/pink_noise",
    ):
        tone(root / f"{name}.wav")


def nsynth(root: pathlib.Path) -> None:
    for part, name, note in (
        ("train", "synth_lead_synthetic_001-082-050", (82, 50, "synth_lead", ["bright", "dark"])),
        ("valid", "bass_synthetic_068-049-025", (49, 25, "bass", [])),
        ("test", "brass_acoustic_046-076-127", (76, 127, "brass", [])),
    ):
        pitch, velocity, family, qualities = note
        listed = {
            "note_str": name,
            "pitch": pitch,
            "velocity": velocity,
            "instrument_family_str": family,
            "qualities_str": qualities,
            "sample_rate": 16000,
        }
        text(root / f"nsynth-{part}" / "examples.json", json.dumps({name: listed}))
        tone(root / f"nsynth-{part}" / "audio" / f"{name}.wav")


def vocalsound(root: pathlib.Path) -> None:
    for part, names in (
        ("tr", ["m0002_0_throatclearing.wav", "f0003_0_cough.wav"]),
        ("val", ["f0004_0_sigh.wav"]),
        ("te", ["m0005_0_sniff.wav"]),
    ):
        rows = [{"wav": f"/data/sls/vocalsound/{n}", "labels": "/m/01b_21"} for n in names]
        text(root / "datafiles" / f"{part}.json", json.dumps({"data": rows}))
        for name in names:
            tone(root / "audio_16k" / name)


MINIATURES = {
    "librispeech": librispeech,
    "aishell1": aishell1,
    "speech_commands": speech_commands,
    "nsynth": nsynth,
    "vocalsound": vocalsound,
}
# Of each split: the file's stem and what is said of it.
EXPECTED = {
    ("librispeech", "asr"): (
        [
            ("103-1240-0000", "chapter one missus rachel lynde"),
            ("103-1240-0001", "that had its source"),
        ],
        [("84-121123-0000", "go do you hear")],
    ),
    ("librispeech", "speaker_gender"): (
        [("103-1240-0000", "female"), ("103-1240-0001", "female")],
        [("84-121123-0000", "male")],
    ),
    ("aishell1", "asr"): (
        [("BAC009S0002W0122", "而对楼市成交抑制作用最大的限购")],
        [("BAC009S0724W0121", "广州市房地产中介协会分析")],
    ),
    ("speech_commands", "keyword_spotting"): (
        [("00176480_nohash_0", "bed"), ("00176480_nohash_0", "cat")],
        [("026290a7_nohash_0", "bed")],
    ),
    ("nsynth", "instrument_classification"): (
        [("synth_lead_synthetic_001-082-050", "synth lead")],
        [("bass_synthetic_068-049-025", "bass")],
    ),
    ("vocalsound", "vocal_sound_classification"): (
        [("f0003_0_cough", "Cough"), ("m0002_0_throatclearing", "Throat clearing")],
        [("f0004_0_sigh", "Sigh")],
    ),
    ("vocalsound", "speaker_gender"): (
        [("f0003_0_cough", "female"), ("m0002_0_throatclearing", "male")],
        [("f0004_0_sigh", "female")],
    ),
}


@pytest.fixture(params=MINIATURES)
def miniature(request, tmp_path):
    """(name, folder) of every corpus."""
    MINIATURES[request.param](tmp_path / "unpacked")
    return request.param, tmp_path / "unpacked"


def test_every_corpus_has_a_miniature_and_a_true_row_in_the_docs():
    assert MINIATURES.keys() == published.PUBLISHED.keys()
    page = (pathlib.Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")] for line in page.splitlines()]
    told = {row[1].strip("`"): (row[3], row[4]) for row in rows if row[1:2] and "`" in row[1][:1]}
    told.pop("--source", None)
    assert told == {
        name: (source.LICENSE, ", ".join(source.TASKS))
        for name, source in published.PUBLISHED.items()
    }


@pytest.mark.parametrize(("name", "task"), EXPECTED)
def test_clips_and_their_labels(name, task, tmp_path):
    MINIATURES[name](tmp_path)
    for split, expected in zip(("train", "validation"), EXPECTED[name, task], strict=True):
        rows = published.jobs(name, tmp_path, split, [task])
        assert [(row.paths[0].stem, row.annotation["text"]) for row in rows] == expected
        assert all(row.task == task for row in rows)


def test_notes(tmp_path):
    nsynth(tmp_path)
    (row,) = published.jobs("nsynth", tmp_path, "train")
    assert row.annotation == {
        "pitch": 82,
        "velocity": 50,
        "instrument": "synth lead",
        "qualities": ["bright", "dark"],
        "source": "nsynth",
        "license": "CC-BY-4.0",
    }


def test_all_tasks_build_and_read_back(miniature, tmp_path, capsys):
    name, root = miniature
    out = tmp_path / "corpus"
    tasks = published.PUBLISHED[name].TASKS
    flags = [f"--source={name}", f"--root={root}", f"--out={out}", f"--tasks={','.join(tasks)}"]
    assert build.main([*flags, "--workers=1"]) == 0, capsys.readouterr().err
    corpus = Corpus(out)
    assert (out / "rejected.jsonl").read_text() == ""
    for split in ("train", "validation"):
        index = corpus.index(split)
        assert {row.task for row in index} == set(tasks)
        for number, row in enumerate(index):
            assert row.samples == (1600,)
            check_annotation(row.task, row.annotation, TASKS[row.task].clips)
            assert corpus.record(split, number).id == row.id


def test_another_folder_and_another_task_are_refused(miniature, tmp_path):
    name, root = miniature
    (tmp_path / "empty").mkdir()
    with pytest.raises(RejectedRecord, match=f"is not {name} as published, which has "):
        published.jobs(name, tmp_path / "empty", "train")
    with pytest.raises(RejectedRecord, match="has no labels for 'music_captioning'; it has "):
        published.jobs(name, root, "train", ["music_captioning"])


def test_flags_that_do_not_go_together(tmp_path, capsys):
    for flags, message in (
        (["--source=librispeech"], "--source=librispeech needs --root=DIR"),
        (["--source=nsynth", f"--root={tmp_path}", "--seed=1"], "--seed does not go with"),
        (["--source=synthetic", f"--root={tmp_path}"], "--root does not go with"),
        (["--source=manifest", "--manifest=m", "--tasks=asr"], "--tasks does not go with"),
    ):
        with pytest.raises(SystemExit):
            build.main([*flags, f"--out={tmp_path / 'out'}"])
        assert message in capsys.readouterr().err


def test_a_missing_clip_is_rejected_and_the_rest_is_built(tmp_path, capsys):
    root, out = tmp_path / "unpacked", tmp_path / "corpus"
    librispeech(root)
    gone = root / "train-clean-100" / "103" / "1240" / "103-1240-0001.flac"
    gone.unlink()
    assert build.main(["--source=librispeech", f"--root={root}", f"--out={out}"]) == 0
    assert f"{gone}: cannot be read" in (out / "rejected.jsonl").read_text()
    assert "1 rows rejected" in capsys.readouterr().err
    assert len(Corpus(out).index("train")) == 1
