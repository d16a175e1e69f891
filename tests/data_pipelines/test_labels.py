"""Labels at build: refused by name, or mended with a count; what is stored is strict JSON."""

import json

import numpy as np
import pytest
import soundfile

from data_pipelines import build, build_workers
from data_pipelines.build_workers import attempt
from data_pipelines.records import Corpus, Record
from qwen_audio_jax.text.tokenizer import load_tokenizer

ASR = {"audio": "a.wav", "task": "asr", "text": "good morning", "language": "en"}
SECONDS = 0.6


@pytest.fixture
def folder(tmp_path):
    noise = 0.1 * np.random.default_rng(0).standard_normal(round(SECONDS * 16000))
    soundfile.write(tmp_path / "a.wav", noise, 16000)
    return tmp_path


def built(folder, rows, *flags) -> int:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "m.jsonl").write_text(text, encoding="utf-8")
    flags = (f"--manifest={folder / 'm.jsonl'}", f"--out={folder / 'corpus'}", *flags)
    return build.main(["--source=manifest", "--workers=1", *flags])


def listed(folder, name: str) -> list[dict]:
    lines = (folder / "corpus" / name).read_text(encoding="utf-8").split("\n")
    return [json.loads(line, parse_constant=pytest.fail) for line in lines if line]


def test_what_was_mended_is_stored_counted_and_told(folder, capsys):
    rows = [
        ASR,
        ASR | {"language": "EN"},
        ASR | {"language": "EN", "text": "good morning\u00a0"},
        ASR | {"language": "zh-CN"},
        {"audio": "a.wav", "task": "audio_captioning", "text": "\ufeffa dog"},
        {"audio": "a.wav", "task": "audio_captioning", "text": "b", "language": None},
    ]
    assert built(folder, rows) == 0
    index = Corpus(folder / "corpus").index("train")
    told = [(r.annotation["text"], r.annotation.get("language")) for r in index]
    morning = "good morning"
    assert told[:4] == [(morning, "en"), (morning, "en"), (morning, "en"), (morning, "zh")]
    assert told[4:] == [("a dog", None), ("b", None)]
    for number, row in enumerate(index):
        assert Corpus(folder / "corpus").record("train", number).annotation == row.annotation
    blanks = "field 'text': blanks at the ends of a text left out"
    assert listed(folder, "notes.jsonl") == [
        {"split": "train", "note": note, "records": count, "example": example}
        for note, count, example in [
            ("field 'language': 'EN' read as 'en'", 2, "a-2"),
            (blanks, 2, "a-3"),
            ("field 'language': 'zh-CN' read as 'zh'", 1, "a-4"),
            ("field 'language': empty, taken as not given", 1, "a-6"),
        ]
    ]
    said = capsys.readouterr().err
    assert f"train: mended or odd, listed in {folder / 'corpus' / 'notes.jsonl'}:\n" in said
    assert "\n  2 x field 'language': 'EN' read as 'en' (as in a-2)\n" in said


def test_clips_that_are_odd_are_named(folder, capsys):
    wave = np.sin(np.arange(9600) / 9)
    soundfile.write(folder / "integers.wav", 9830 * wave, 16000, subtype="FLOAT")
    soundfile.write(folder / "silent.wav", 0 * wave, 16000)
    rows = [ASR | {"audio": name} for name in ("a.wav", "integers.wav", "silent.wav")]
    assert built(folder, rows) == 0
    assert [n["example"] for n in listed(folder, "notes.jsonl")] == ["silent-3", "integers-2"]
    said = capsys.readouterr().err
    assert "1 x field 'audio': it is silent, or its channels cancel" in said
    assert "as if 16-bit integers had been written as floats; divide them by 32,768" in said


def test_notes_of_another_split_are_kept(folder):
    assert built(folder, [ASR | {"language": "EN"}]) == 0
    assert built(folder, [ASR | {"language": "German"}], "--split=validation") == 0
    assert [(n["split"], n["records"]) for n in listed(folder, "notes.jsonl")] == [
        ("train", 1),
        ("validation", 1),
    ]
    assert built(folder, [ASR], "--overwrite") == 0
    assert [n["split"] for n in listed(folder, "notes.jsonl")] == ["validation"]


@pytest.mark.parametrize("language", ["0.00", "caption", "event", "transcribe", "endoftext", "sil"])
@pytest.mark.parametrize("field", ["language", "target_language"])
def test_a_language_called_as_a_control_token_is_found_before_decoding(
    folder, field, language, capsys, monkeypatch
):
    monkeypatch.setattr(build_workers, "decode", lambda clip: pytest.fail("decoded"))
    before = sorted(folder.rglob("*"))
    row = ASR | {"target_language": "de", "task": "speech_translation", field: language}
    for _ in range(2):
        assert built(folder, [row]) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: no usable row for the train split")
        assert f"field '{field}': '{language}' " in said
        assert said.count("\n") == 1
    assert sorted(folder.rglob("*")) == [*before, folder / "m.jsonl"]


def test_languages_become_tags_of_their_own_and_only_one_each(folder):
    names = ["en", "EN", "English", "en-US", " en\u200b", "be", "Belarusian", "unknown", "und"]
    assert built(folder, [ASR | {"language": name} for name in names]) == 0
    tokenizer = load_tokenizer(folder / "corpus" / "tokenizer")
    assert tokenizer.tag("<|be|>", language=True) == tokenizer.special("<|be|>")
    assert "<|be-tarask|>" not in tokenizer.control_ids
    assert {r.annotation["language"] for r in Corpus(folder / "corpus").index("train")} == {
        "en",
        "be",
        "unknown",
    }


def test_shards_of_other_checks_are_not_gone_on_with(folder, monkeypatch):
    work = build.manifest_work(folder / "m.jsonl", "train") if built(folder, [ASR]) == 0 else {}
    before = build_workers.fingerprint(work, {"train": 1})
    assert before == build_workers.fingerprint(work, {"train": 1})
    monkeypatch.setattr(build_workers, "CHECKS", build_workers.CHECKS + 1)
    assert before != build_workers.fingerprint(work, {"train": 1})


@pytest.mark.parametrize(
    ("task", "field", "unit"),
    [
        ("word_timestamps", "words", {"word": "late"}),
        ("sound_event_detection", "events", {"event": "dog"}),
        ("speaker_diarization", "turns", {"speaker": "A"}),
        ("audio_grounding", "segments", {}),
    ],
)
def test_times_beyond_the_clip_are_refused_with_its_length(folder, task, field, unit, capsys):
    def row(start, end):
        units = [unit | {"start": start, "end": end}]
        return {"audio": "a.wav", "task": task, "language": "en", "phrase": "x", field: units}

    assert built(folder, [row(0, 0.6), row(0.3, 0.7), row(0, 0.71), row(5, 8), row(100, 500)]) == 0
    rejected = listed(folder, "rejected.jsonl")
    assert [r["row"] for r in rejected] == [3, 4, 5]
    assert rejected[1]["reason"] == (
        f"field '{field}': a time of 8 s, and the clip lasts 0.60 s; times are in seconds from its "
        "beginning"
    )
    assert [row.samples for row in Corpus(folder / "corpus").index("train")] == [(9600,)] * 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"text": np.float32(3)}, "field 'text': must be a text, not a float32"),
        ({"n": float("inf")}, "field 'n': cannot be written as JSON"),
        ({"n": np.zeros(2)}, "field 'n': cannot be written as JSON"),
        ({"n": "half \ud83d"}, "field 'n': cannot be written as JSON"),
    ],
)
def test_what_a_source_makes_must_be_json(folder, change, says):
    clip = (folder / "a.wav").read_bytes()
    annotation = {"text": "x", "language": "en"} | change
    outcome = attempt(lambda job: Record("a", "asr", (clip,), annotation), lambda job: 7, None)
    assert outcome["row"] == 7
    assert says in outcome["reason"]
    json.dumps(outcome, ensure_ascii=False).encode()


def test_a_file_name_that_is_no_text_is_refused(folder):
    record = Record("a\udcff", "asr", ((folder / "a.wav").read_bytes(),), ASR)
    outcome = attempt(lambda job: record, lambda job: 1, None)
    assert outcome["id"] == "a\\udcff"
    assert "field 'id': cannot be written as JSON" in outcome["reason"]


def test_what_a_source_raises_is_told_in_words(folder):
    for error, says in [
        (KeyError("pitch"), "cannot be read ('pitch' is missing)"),
        (OSError(5, "Input/output error"), "cannot be read (Input/output error)"),
        (ValueError("two\nlines"), "cannot be read (two lines)"),
        (ValueError(), "cannot be read (ValueError)"),
    ]:

        def make(job, error=error):
            raise error

        assert attempt(make, lambda job: 1, None) == {"row": 1, "reason": says}
