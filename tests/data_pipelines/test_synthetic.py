"""The built-in corpus: shares, the split, determinism, and that labels and audio agree."""

import io
import json
import multiprocessing
from collections import Counter

import numpy as np
import pytest
import soundfile

from data_pipelines.sources import synthetic
from data_pipelines.sources.synthetic.notes import INSTRUMENTS
from data_pipelines.sources.synthetic.speech_tasks import VOICES
from data_pipelines.sources.synthetic.split import is_validation
from qwen_audio_jax.tasks import check_annotation

pytest.importorskip("espeakng_loader")

COUNT = 340
# The others' labels are told apart in test_synthetic_further.
SOME = synthetic.TASKS[: synthetic.TASKS.index("overlapped_speech_recognition")]


@pytest.fixture(scope="module")
def corpus():
    return {
        split: [synthetic.make(job) for job in synthetic.Jobs(split, COUNT, seed=3, tasks=SOME)]
        for split in ("train", "validation")
    }


def samples(record, clip=0):
    wave, rate = soundfile.read(io.BytesIO(record.audio[clip]))
    assert rate == 16_000
    return wave


def of_task(records, task):
    return [r for r in records if r.task == task]


def test_every_task_from_the_start_and_exact_shares():
    tasks = [task for *_, task, _ in synthetic.Jobs("train", 31, seed=0)]
    assert len(set(tasks)) == 31
    a_round = Counter(task for *_, task, _ in synthetic.Jobs("train", 69, seed=0))
    ten_rounds = Counter(task for *_, task, _ in synthetic.Jobs("train", 690, seed=0))
    assert ten_rounds == {task: 10 * n for task, n in a_round.items()}
    assert list(synthetic.Jobs("train", 50, seed=0)) == synthetic.Jobs("train", 80, seed=0)[:50]
    ordinals = [ordinal for *_, task, ordinal in synthetic.Jobs("train", 80, 0) if task == "asr"]
    assert ordinals == list(range(len(ordinals)))


def test_any_number_of_jobs_takes_no_memory():
    jobs = synthetic.Jobs("train", 10**12, seed=0)
    assert jobs[10**12 - 1][2] == 10**12 - 1
    assert len(jobs) == 10**12
    with pytest.raises(IndexError):
        jobs[10**12]


def test_unknown_split_is_named():
    with pytest.raises(ValueError, match="'test': must be one of train, validation"):
        synthetic.Jobs("test", 1, seed=0)
    with pytest.raises(ValueError, match="--tasks: 'asrr' is none of asr, "):
        synthetic.Jobs("train", 1, seed=0, tasks=["asrr"])


def test_records_are_sound(corpus):
    for records in corpus.values():
        assert len({r.id for r in records}) == len(records)
        for record in records:
            check_annotation(record.task, record.annotation, len(record.audio))
            assert json.loads(json.dumps(record.annotation)) == record.annotation
            assert record.annotation["source"] == "synthetic"
            for i, audio in enumerate(record.audio):
                info = soundfile.info(io.BytesIO(audio))
                assert (info.format, info.subtype, info.channels) == ("FLAC", "PCM_16", 1)
                wave = samples(record, i)
                assert 0.2 < wave.size / 16_000 < 4
                assert 0.005 < np.abs(wave).max() < 0.99


def test_same_bytes_in_any_order_and_process():
    # f2 and f5 breathe (random noise), f1 and m1 flutter (a running phase): the states at stake.
    jobs = synthetic.Jobs("train", 44, seed=5)
    speech = [j for j in jobs if j[3] in ("asr", "speaker_gender", "speaker_verification")]
    first = [synthetic.make(job) for job in speech]
    for job in jobs[:30]:
        synthetic.make(job)
    assert [synthetic.make(job) for job in reversed(speech)] == first[::-1]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(synthetic.make, jobs) == [synthetic.make(job) for job in jobs]


def test_seeds_differ():
    one, two = (synthetic.make(synthetic.Jobs("train", 1, seed)[0]) for seed in (0, 1))
    assert one.audio != two.audio


def combinations(records):
    """What must not be shared between the splits, and what must be."""
    apart, common = set(), set()
    for record in records:
        a, task = record.annotation, record.task
        for key in ("transcript", "transcripts"):
            said = a.get(key, [])
            apart.update([said] if isinstance(said, str) else said)
        if task in ("asr", "word_timestamps"):
            apart.add(a["text"])
        if task in ("note_analysis", "instrument_classification"):
            apart.add((a["pitch"], a.get("instrument", a.get("text"))))
            common.add(a.get("instrument", a.get("text")))
        if task in ("keyword_spotting", "language_identification"):
            apart.add((task, a["text"], a["voice"]))
        if task in ("audio_captioning", "audio_question_answering") and "sounds" in a:
            apart.add(frozenset(a["sounds"]))
        if task == "sound_event_detection" and len(a["events"]) > 1:
            apart.add(frozenset(e["event"] for e in a["events"]))
        if task == "acoustic_scene_classification":
            apart.add((a["text"], *sorted(a["sounds"])))
        if task == "speaker_verification" and a["text"] == "different":
            apart.add(frozenset(a["voices"]))
        if task == "audio_question_answering" and "pitches" in a:
            apart.add(frozenset(a["pitches"]))
        if "classification" in task or task in ("keyword_spotting", "language_identification"):
            common.add((task, a["text"]))
    return apart, common


def test_validation_has_unseen_combinations_of_seen_classes(corpus):
    (train, train_classes), (validation, classes) = map(combinations, corpus.values())
    assert len(validation) > 80
    assert not train & validation
    assert classes <= train_classes


def test_the_middle_of_every_sound_is_held_out(corpus):
    sizes = {
        split: [r.annotation["size"] for r in of_task(records, "sound_event_classification")]
        for split, records in corpus.items()
    }
    assert all(0.42 <= u <= 0.58 for u in sizes["validation"])
    assert all(u <= 0.4 or u >= 0.6 for u in sizes["train"])


def test_every_class_is_on_both_sides():
    for rows, columns in ((14, len(INSTRUMENTS)), (12, 10), (10, len(VOICES)), (8, len(VOICES))):
        table = np.array([[is_validation(i, j) for j in range(columns)] for i in range(rows)])
        for axis in (0, 1):
            assert table.any(axis).all()
            assert not table.all(axis).any()


def test_answers_are_balanced():
    jobs = [("train", 0, i, "audio_question_answering", i) for i in range(96)]
    answers = Counter(synthetic.make(job).annotation["text"] for job in jobs)
    assert answers["yes"] == answers["no"] == answers["first"] == answers["second"] == 12
    assert {answers[n] for n in ("one", "two", "three", "four")} == {6}


def test_event_times_are_where_the_energy_is(corpus):
    for record in of_task(corpus["train"], "sound_event_detection"):
        wave, events = samples(record), record.annotation["events"]
        assert events == sorted(events, key=lambda e: e["start"])
        assert events[-1]["end"] <= wave.size / 16_000 + 0.01
        at = int(events[0]["start"] * 16_000)
        before = np.abs(wave[: at - 160]).max()
        assert np.abs(wave[at : at + 1600]).max() > 4 * before
        last = int(max(e["end"] for e in events) * 16_000)
        assert np.abs(wave[last - 1600 : last]).max() > 2 * np.abs(wave[last + 160 :]).max()


def test_words_are_timed_within_the_speech(corpus):
    for record in of_task(corpus["train"], "word_timestamps"):
        wave, words = samples(record), record.annotation["words"]
        said = "".join(w["word"] for w in words)
        assert said == record.annotation["text"].replace(" ", "")
        times = [t for w in words for t in (w["start"], w["end"])]
        assert times == sorted(times)
        assert all(w["end"] - w["start"] > 0.02 for w in words)
        first, last = (int(t * 16_000) for t in (times[0], times[-1]))
        assert last <= wave.size
        loud = np.abs(wave) > 0.05 * np.abs(wave).max()
        assert abs(np.flatnonzero(loud)[0] - first) < 0.12 * 16_000
        assert abs(np.flatnonzero(loud)[-1] - last) < 0.12 * 16_000
