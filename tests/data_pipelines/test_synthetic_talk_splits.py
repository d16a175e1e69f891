"""Conversations of the built-in corpus: form, split, balance, not to be guessed."""

import collections
import io
import json
import multiprocessing

import numpy as np
import pytest
import soundfile
from synthetic_talks import made, of_kind, talks, told, waves

from data_pipelines import build
from data_pipelines.build_flags import read_flags
from data_pipelines.records import Corpus
from data_pipelines.sources import synthetic
from data_pipelines.sources.synthetic.spoken_questions import FAMILIES
from data_pipelines.sources.synthetic.voice_talks import _of_the_world
from qwen_audio_jax.tasks import check_annotation
from qwen_audio_jax.tasks.conversation import check_talk

pytest.importorskip("espeakng_loader")

KINDS = ["voice_chat", "audio_analysis", "several_clips", "several_turns"]
RECALLED = {"last_word", "first_word", "first_one", "total"}
"""What is asked for that earlier answers tell, where the turn has no clip."""


@pytest.fixture(scope="module")
def corpus():
    return made()


# ------------------------------------------------------------------ form


def test_talks_are_sound(corpus):
    for records in corpus.values():
        assert [r.annotation["kind"] for r in records] == KINDS * (len(records) // 4)
        for record in records:
            note = record.annotation
            assert note["messages"] == check_talk(note["messages"], len(record.audio))
            assert check_annotation("chat", note, len(record.audio)) == (note, ())
            assert json.loads(json.dumps(note)) == note
            assert len(note["heard"]) == len(record.audio)
            many = note["kind"].startswith("several")
            for audio in record.audio:
                info = soundfile.info(io.BytesIO(audio))
                assert (info.format, info.samplerate, info.channels) == ("FLAC", 16_000, 1)
                assert 0.2 < info.duration < (3.0 if many else 4.4)
            for text, new, _, answer in told(record):
                assert len(answer.split()) <= 8
                assert (text == "") == (note["kind"] == "voice_chat" or "said" in str(new))


def test_each_kind_has_its_form(corpus):
    shapes = collections.defaultdict(set)
    for record in corpus["train"]:
        shapes[record.annotation["kind"]].add((len(record.audio), len(told(record))))
    assert shapes["voice_chat"] == shapes["audio_analysis"] == {(1, 1)}
    assert shapes["several_clips"] == {(2, 1), (3, 1), (3, 2)}
    assert {turns for _, turns in shapes["several_turns"]} == {2, 3, 4}


def test_same_bytes_in_any_order_and_process(corpus):
    jobs = synthetic.Jobs("train", 40, 3, ["chat"])[:40]
    assert [synthetic.make(job) for job in reversed(jobs)][::-1] == corpus["train"][:40]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(synthetic.make, jobs) == corpus["train"][:40]


def test_more_talks_begin_with_the_same():
    few, many = (synthetic.Jobs("train", n, 3, ["chat"]) for n in (50, 5000))
    assert list(few) == many[:50]
    assert talks("train", 1, seed=3)[0].audio != talks("train", 1, seed=4)[0].audio


# ------------------------------------------------------------------ the split


def combinations(record):
    """What of a talk may not be in both splits."""
    heard = record.annotation["heard"]
    if "said" in heard[0]:
        yield heard[0]["said"], heard[0]["voice"]
    events = [clip for clip in heard if "scene" not in clip]
    names = {name for clip in events for name in clip.get("sounds", [clip.get("sound")])}
    if len(names) > 1:
        yield frozenset(names)
    for clip in heard:
        if "size" in clip:
            yield 0.41 < clip["size"] < 0.59
        if "before" in clip:
            yield clip["before"][0]
            yield frozenset(clip["voices"])
        for one, other in (
            ("word", "voice"),
            ("emotion", "voice"),
            ("language", "voice"),
            ("instrument", "pitch"),
        ):
            if one in clip:
                yield clip[one], clip[other]
        if "transcript" in clip:
            yield clip["transcript"]
        if "scene" in clip:
            yield clip["scene"], frozenset(clip["sounds"])


def test_validation_has_unseen_combinations_of_seen_classes(corpus):
    train, validation = (
        {each for record in records for each in combinations(record)} for records in corpus.values()
    )
    assert len(validation) > 120
    assert not train & validation
    kinds_of_question = [
        {asks for record in records for asks in record.annotation["asked"]}
        for records in corpus.values()
    ]
    assert kinds_of_question[0] == kinds_of_question[1]
    for key in ("sound", "instrument", "scene", "emotion", "language", "word", "voice", "gender"):
        classes = [
            {c[key] for r in records for c in r.annotation["heard"] if key in c}
            for records in corpus.values()
        ]
        assert classes[1] <= classes[0], key


# ------------------------------------------------------------------ no guessing


def test_no_answer_is_common_in_its_kind(corpus):
    for records in corpus.values():
        for kind in KINDS:
            answers = collections.Counter(
                answer for record in of_kind(records, kind) for *_, answer in told(record)
            )
            assert max(answers.values()) < 0.1 * answers.total(), answers.most_common(3)
            assert len(answers) > 25


def test_text_alone_does_not_tell_the_answer(corpus):
    """Guessing what others with the same question after the same answer were told."""
    for kind in KINDS:
        seen = collections.defaultdict(collections.Counter)
        cases = []
        for record in of_kind(corpus["train"], kind):
            before = ""
            for text, *_, answer in told(record):
                cases.append((before, text, answer))
                seen[before, text][answer] += 1
                before = answer
        right = 0.0
        for before, text, answer in cases:
            others = seen[before, text] - collections.Counter([answer])
            best = [one for one, n in others.items() if n == max(others.values())]
            right += (answer in best) / max(1, len(best))
        assert right < 0.25 * len(cases), kind


def test_few_answers_are_told_by_earlier_ones(corpus):
    records = of_kind(corpus["train"], "several_turns")
    listed = [
        (turn, asks)
        for record in records
        for turn, asks in zip(told(record), record.annotation["asked"], strict=True)
    ]
    recalled = [asks for (_, new, *_), asks in listed if asks in RECALLED and not new]
    assert set(recalled) == RECALLED
    assert 0.05 < len(recalled) / len(listed) < 0.15


def test_all_that_can_be_said_comes_round():
    every = {spoken.said for family in FAMILIES.values() for spoken in family}
    round_of_all = range(len(FAMILIES) * max(map(len, FAMILIES.values())))
    assert {_of_the_world(number)[1].said for number in round_of_all} == every
    answers = collections.Counter(
        spoken.answer for family in FAMILIES.values() for spoken in family
    )
    assert max(answers.values()) <= 3  # of the sums, four


# ------------------------------------------------------------------ beside the other tasks

SHARES = {
    "asr": 4,
    "note_analysis": 4,
    "audio_question_answering": 4,
    "speech_translation": 3,
    "word_timestamps": 3,
    "language_identification": 2,
    "keyword_spotting": 2,
    "instrument_classification": 2,
    "sound_event_classification": 2,
    "acoustic_scene_classification": 2,
    "sound_event_detection": 2,
    "audio_captioning": 2,
    "speaker_gender": 1,
    "speaker_verification": 1,
    "overlapped_speech_recognition": 2,
    "dialect_speech_recognition": 2,
    "dialect_identification": 2,
    "emotion_recognition": 2,
    "speaker_age": 2,
    "speaker_diarization": 2,
    "entity_recognition": 2,
    "intent_classification": 2,
    "slot_filling": 2,
    "vocal_sound_classification": 2,
    "audio_grounding": 2,
    "singer_identification": 2,
    "music_emotion": 2,
    "music_captioning": 2,
    "genre_classification": 2,
    "music_recognition": 2,
    "music_question_answering": 3,
}
"""Of the corpus that is built where no tasks are named."""


def test_the_default_corpus_has_no_talks_and_is_what_it_was():
    round_of = [(task, n) for n in range(4) for task, share in SHARES.items() if share > n]
    jobs = [
        ("train", 0, i, task, i // len(round_of) * SHARES[task] + n)
        for i in range(200)
        for task, n in [round_of[i % len(round_of)]]
    ]
    assert list(synthetic.Jobs("train", 200, 0)) == jobs
    assert list(build.synthetic_work(200, 1)["train"].jobs) == jobs
    # Drawn by whole numbers alone, so alike on every machine.
    first = synthetic.make(jobs[1])
    assert (first.id, first.annotation) == (
        "synthetic-0-train-0000001",
        {
            "pitch": 60,
            "velocity": 25,
            "instrument": "piano",
            "source": "synthetic",
            "license": "Apache-2.0",
        },
    )
    arguments = read_flags(["--source=synthetic", "--tasks=all", "--out=x"], "")
    assert list(build._work(arguments)["train"].jobs[:200]) == jobs


def test_talks_mix_with_other_tasks():
    tasks = [task for *_, task, _ in synthetic.Jobs("train", 16, 0, ["chat", "asr"])]
    assert tasks == ["asr", "chat"] * 8


def test_hours_of_talks_are_about_as_many(corpus):
    seconds = [sum(wave.size for wave in waves(r)) / 16_000 for r in corpus["train"]]
    estimated = synthetic.mean_seconds(synthetic.Jobs("train", 1, 3, ["chat"]))
    assert estimated == pytest.approx(np.mean(seconds), rel=0.1)


def test_a_corpus_of_talks_is_built(tmp_path):
    arguments = ["--source=synthetic", "--tasks=chat", f"--out={tmp_path / 'talks'}"]
    sizes = ["--train_examples=16", "--validation_examples=4", "--workers=1"]
    assert build.main([*arguments, *sizes]) == 0
    corpus = Corpus(tmp_path / "talks")
    for split, count in (("train", 16), ("validation", 4)):
        rows = list(corpus.index(split))
        assert {row.task for row in rows} == {"chat"}
        assert sorted(row.annotation["kind"] for row in rows) == sorted(KINDS * (count // 4))
    assert (tmp_path / "talks" / "tokenizer").is_dir()
