"""What a training corpus holds of a benchmark, and what its scores are without that."""

import io
import json

import numpy as np
import pytest
import soundfile
from conftest import flac
from hypothesis import given
from hypothesis import strategies as st
from scripted import ASKER, OPTIONS, scripted, write

from data_pipelines.records import Corpus, Record
from data_pipelines.shards import write_split
from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.evaluation import answer_stage, contamination, stages
from qwen_audio_jax.evaluation.benchmarks import open_benchmark
from qwen_audio_jax.evaluation.contamination_scores import contamination_notes
from qwen_audio_jax.evaluation.ngrams import COMMON, Texts, units
from qwen_audio_jax.evaluation.plan import read_plan

SENTENCES = (
    "the quick brown fox jumps over the lazy dog while seven grey cats look on",
    "she sells sea shells by the shore and counts them twice every single morning",
    "when the rain had stopped we walked along the river as far as the old mill",
    "turn on the light",
)


def wave(seed, samples=4000):
    return np.random.default_rng(seed).integers(-9000, 9000, samples) / 32768


def wav(samples, rate=16000, subtype="PCM_16"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype=subtype, format="WAV")
    return file.getvalue()


def corpus(path, train, validation=()):
    """Of (clip, text) pairs."""
    path.mkdir()
    for split, pairs in (("train", train), ("validation", validation)):
        records = [
            Record(f"{split}-{n}", "asr", (clip,), {"text": text, "language": "en"})
            for n, (clip, text) in enumerate(pairs)
        ]
        if records:
            measured = ((one, tuple(len(decode(clip)) for clip in one.audio)) for one in records)
            write_split(path, split, measured)
    return contamination.Source.of(path)


@pytest.fixture
def made(tmp_path):
    """An evaluation of four sentences, the second of which is answered wrongly; its benchmark."""
    folder = tmp_path / "benchmark"
    folder.mkdir()
    rows = []
    for n, text in enumerate(SENTENCES):
        (folder / f"{n}.wav").write_bytes(wav(wave(n)))
        rows.append({"audio_filepath": f"{n}.wav", "text": text, "id": f"i{n}", "lang": "en"})
    path = write(folder / "list.jsonl", rows)
    evaluation = tmp_path / "evaluation"
    said = dict(zip((wav(wave(n)) for n in range(4)), SENTENCES, strict=True))
    said[wav(wave(1))] = " ".join(["no"] * 14)
    answers = scripted(lambda question: said[question.clips()[0]], [])
    answer_stage.answer(evaluation, ASKER, [open_benchmark("b", path)], answers)
    return evaluation


def scored(evaluation, *sources):
    table = stages.score(evaluation, OPTIONS, sources)
    told = json.loads((evaluation / "summary.json").read_text())["contamination"]
    (one,) = told["benchmarks"].values()
    return one, table, {item["id"]: item for item in one["items"]}


def test_a_clip_that_was_coded_anew_is_found_and_its_words_are_told_apart(tmp_path, made):
    """Of clip 0 a FLAC, of clip 1 another recording of its sentence, of clip 3 the file itself."""
    source = corpus(
        tmp_path / "train",
        [
            (flac(wave(0)), "something else is written here"),
            (flac(wave(11)), SENTENCES[1].upper().replace(" and", ", and") + "!"),
            (wav(wave(3)), "turn on the light"),
            (flac(wave(12)), "turn on the light"),
            (flac(wave(13, 5000)), "the rain had stopped we walked along the shore"),
        ],
    )
    one, table, items = scored(made, source)
    assert items.keys() == {"i0", "i1", "i3"}
    where = f"{tmp_path / 'train'} (train): train-"
    assert items["i0"] == {
        "id": "i0", "audio": "same samples", "text": 0, "record": f"{where}0"
    }  # fmt: skip
    assert items["i1"] == {"id": "i1", "audio": "", "text": 1, "record": f"{where}1"}
    # Too short to be told by its words; and eight words of a longer text are none of thirteen.
    assert items["i3"] == {
        "id": "i3", "audio": "same bytes", "text": None, "record": f"{where}2"
    }  # fmt: skip
    counts = {"asked": 4, "audio": 2, "same_bytes": 1, "text": 1, "with_text": 3, "any": 3}
    assert counts | {"unread": 0} == {name: one[name] for name in [*counts, "unread"]}
    wer = next(row for row in one["scores"] if row["metric"] == "wer")
    words = [len(text.split()) for text in SENTENCES]
    assert (wer["value"], wer["n"]) == (words[1] / sum(words), 4)
    without = wer["without_audio"]
    assert (without["value"], without["n"]) == (words[1] / (words[1] + words[2]), 2)
    assert without["low"] <= without["value"] <= without["high"]
    assert (wer["without_any"]["value"], wer["without_any"]["n"]) == (0, 1)
    told = " ".join(str(table.caption).split())
    assert "(train) is the audio of 2 of 4 items, and of the 3 that have texts of 8" in told
    page = (made / "report.html").read_text()
    assert "100 % of its text" in page
    assert "without items whose audio is there" in page


def test_other_sound_and_other_words_are_no_contamination(tmp_path, made):
    """Half a quantum of one sample more is another clip, as is the same at another rate; a corpus's
    validation split is not what was trained on.
    """
    almost = wave(0)
    almost[7] += 0.5 / 32768
    own = [(wav(wave(n)), text) for n, text in enumerate(SENTENCES)]
    clips = [wav(almost, subtype="FLOAT"), wav(wave(0, 2000), 8000), wav(wave(0)[:-1])]
    source = corpus(tmp_path / "train", [(clip, "seven grey cats") for clip in clips], own)
    one, _, items = scored(made, source)
    assert items == {}
    assert one["scores"] == []
    only = corpus(tmp_path / "validation", (), own)
    assert scored(made, source, only)[0]["same_bytes"] == 4


def test_scores_that_nothing_touches_are_not_told_of():
    whole, fewer = {"value": 0.5, "n": 4}, {"value": 1.0, "n": 2}
    scores = [
        {"task": task, "metric": "accuracy", **whole, "without_audio": whole, "without_any": rest}
        for task, rest in (("speaker_age", whole), ("genre_classification", fewer))
    ]
    counts = {"asked": 8, "audio": 0, "unread": 0, "with_text": 0, "text": 0}
    told = {"against": ["data/mine"], "benchmarks": {"mine": counts | {"scores": scores}}}
    _, *touched = contamination_notes({"contamination": told})
    assert touched == [
        "mine, genre_classification: Accuracy is 50.0 %, without items whose audio is there "
        "50.0 %, without those of which anything is 100.0 %"
    ]


def test_clips_of_other_lengths_are_not_read(tmp_path, made, monkeypatch):
    source = corpus(tmp_path / "train", [(flac(wave(20 + n, 4000 + n)), "x") for n in range(5)])
    read = []
    record = Corpus.record

    def counted(self, split, number):
        read.append(number)
        return record(self, split, number)

    monkeypatch.setattr(Corpus, "record", counted)
    scored(made, source)
    assert read == [0]


def test_several_corpora_and_no_corpus(tmp_path, made):
    sources = [
        corpus(tmp_path / str(n), [(flac(wave(n)), SENTENCES[(n + 1) % 4])]) for n in range(2)
    ]
    _, _, items = scored(made, *sources)
    assert {name: item["audio"] for name, item in items.items()} == {
        "i0": "same samples", "i1": "same samples", "i2": ""
    }  # fmt: skip
    assert items["i1"]["text"] == 1
    stages.score(made, OPTIONS)
    assert "contamination" not in json.loads((made / "summary.json").read_text())
    with pytest.raises(FileNotFoundError, match="no corpus there"):
        contamination.Source.of(tmp_path / "none")


def test_a_benchmark_that_has_changed_is_refused(tmp_path, made):
    source = corpus(tmp_path / "train", [(flac(wave(0)), "x")])
    path = tmp_path / "benchmark" / "list.jsonl"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(ValueError, match=r"list.jsonl: has changed since the evaluation began"):
        stages.score(made, OPTIONS, [source])


def test_units_are_words_and_characters_where_none_are_written():
    assert units("It's 3 o'clock, नमस्ते!") == ["it", "s", "3", "o", "clock", "नमस्ते"]
    assert units("今天AB好 สวัสดี") == ["今", "天", "ab", "好", *"สวัสดี"]


def found(texts, corpus_text):
    looked = Texts(texts)
    looked.look(corpus_text)
    return {owner: looked.share(owner) for owner, _ in texts}


def test_a_chinese_sentence_is_found_by_its_characters():
    text = "今天天气很好我们一起去公园散步吧"
    assert found([("a", text)], f"他说，{text}！") == {"a": 1}
    assert found([("a", text)], text[:12]) == {"a": 0}


def test_what_every_question_says_is_wording():
    """An instruction in all of them is not looked for, or each would be found in a corpus of it."""
    instruction = "choose the most suitable answer from these options to respond to the question"
    asked = [(n, f"{instruction} {' '.join(f'w{n}x{i}' for i in range(14))}") for n in range(20)]
    assert len({text for _, text in asked}) > COMMON
    assert not any(found(asked, instruction).values())
    assert all(found(asked[:COMMON], instruction).values())
    # The same text again, as of a talk with many answers, is no other text.
    assert all(found([(n, asked[0][1]) for n in range(20)], asked[0][1]).values())


@given(st.lists(st.sampled_from("abcd"), min_size=8, max_size=30), st.integers(0, 30), st.data())
def test_overlap_is_what_comparing_all_places_finds(words, at, data):
    said = data.draw(st.lists(st.sampled_from("abcd"), max_size=40))
    said[at:at] = words[: data.draw(st.integers(0, 30))]
    n = 13 if len(words) >= 13 else 8
    grams = {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}
    held = {gram for gram in grams if any(said[i : i + n] == [*gram] for i in range(len(said)))}
    assert found([("x", " ".join(words))], " ".join(said)) == {"x": len(held) / len(grams)}


def test_clips_that_cannot_be_decoded_are_counted(tmp_path, made):
    source = corpus(tmp_path / "train", [(flac(wave(0)), "x")])
    broken = wav(wave(0))[:100]
    (tmp_path / "benchmark" / "0.wav").write_bytes(broken)
    looked = contamination.find(read_plan(made), [source])
    assert looked.unread == {"b": 1}
    assert not looked.overlaps["b", "i0"].audio
