"""The built-in corpus beyond its first tasks: complete, split, and heard as its labels say."""

import io
import itertools

import librosa
import numpy as np
import pytest
import soundfile

from data_pipelines.sources import synthetic
from data_pipelines.sources.synthetic.command_tasks import COMMANDS
from data_pipelines.sources.synthetic.phrases import ADJECTIVES, NOUNS, spoken
from data_pipelines.sources.synthetic.song_tasks import TUNES, _wandering
from data_pipelines.sources.synthetic.speaker_tasks import DIALECTS
from data_pipelines.sources.synthetic.speech import speak
from qwen_audio_jax.tasks import TASKS, check_annotation

pytest.importorskip("espeakng_loader")

FURTHER = synthetic.TASKS[synthetic.TASKS.index("overlapped_speech_recognition") :]
RATE = 16_000


@pytest.fixture(scope="module")
def corpus():
    return {
        split: [synthetic.make(job) for job in synthetic.Jobs(split, 420, 3, FURTHER)]
        for split in ("train", "validation")
    }


def wave_of(record):
    wave, rate = soundfile.read(io.BytesIO(record.audio[0]))
    assert rate == RATE
    return wave


def of_task(records, task):
    return [record for record in records if record.task == task]


def made(task, ordinal, split="train"):
    return synthetic.make((split, 0, 100_000 + ordinal, task, ordinal))


def pitch_of(wave, low=60, high=1500):
    """Fundamental in Hz of the voiced frames, by pYIN."""
    f0, _, _ = librosa.pyin(wave, fmin=low, fmax=high, sr=RATE, frame_length=1024, hop_length=320)
    return f0


def test_every_task_of_the_table_is_made():
    assert set(synthetic.TASKS) == set(TASKS)


def test_records_are_sound(corpus):
    for records in corpus.values():
        assert {record.task for record in records} == set(FURTHER)
        for record in records:
            check_annotation(record.task, record.annotation, len(record.audio))
            wave = wave_of(record)
            assert 0.2 < wave.size / RATE < 6
            assert 0.1 < np.abs(wave).max() < 0.99


def test_same_bytes_every_time(corpus):
    again = [synthetic.make(job) for job in reversed(synthetic.Jobs("train", 40, 3, FURTHER)[:40])]
    assert again[::-1] == corpus["train"][:40]


def combination(record):
    """What of a record may not be in both splits."""
    a, task = record.annotation, record.task
    if task in ("dialect_identification", "emotion_recognition"):
        return task, a["text"], a["voice"]
    if task in ("speaker_diarization", "overlapped_speech_recognition"):
        return frozenset(a["voices"][:2])
    if task in ("intent_classification", "slot_filling", "entity_recognition"):
        return a["transcript"]
    if task in ("music_recognition", "music_emotion", "genre_classification"):
        return task, a["text"], a["instrument"]
    if task == "singer_identification":
        return a["text"], a["song"]
    if task == "audio_grounding":
        return frozenset(a["sounds"])
    if task == "music_question_answering":
        return a["key"], a["instrument"]
    return (task, a["size"]) if "size" in a else (task, a.get("transcript", a.get("text")))


def test_validation_has_unseen_combinations_of_seen_classes(corpus):
    train, validation = ({combination(r) for r in records} for records in corpus.values())
    assert len(validation) > 150
    assert not train & validation
    for task in FURTHER:
        if TASKS[task].metric == "accuracy":
            answers = [
                {r.annotation["text"] for r in of_task(records, task)}
                for records in corpus.values()
            ]
            assert answers[1] <= answers[0]


def test_turns_are_where_somebody_speaks(corpus):
    for record in of_task(corpus["train"], "speaker_diarization"):
        wave, turns = wave_of(record), record.annotation["turns"]
        heard = np.zeros(wave.size, bool)
        for turn in turns:
            place = slice(int(turn["start"] * RATE), int(turn["end"] * RATE))
            heard[place] = True
            # An utterance begins and ends with sound.
            for edge in (wave[place][:1600], wave[place][-1600:]):
                assert np.abs(edge).max() > 0.02 * np.abs(wave).max()
        edges = np.abs(np.diff(heard.astype(int))).nonzero()[0]
        for edge in edges:
            heard[max(0, edge - 200) : edge + 200] = True
        outside = wave[~heard]
        # The background is 34 dB below the peak at most.
        assert outside.size == 0 or np.sqrt(np.mean(outside**2)) < 0.025 * np.abs(wave).max()
        names = [turn["speaker"] for turn in turns]
        assert sorted(set(names), key=names.index) == sorted(set(names))


def test_a_phrase_is_heard_in_its_segments_and_what_is_between_is_another_sound(corpus):
    counts = set()
    for record in of_task(corpus["train"], "audio_grounding"):
        wave, segments = wave_of(record), record.annotation["segments"]
        counts.add(len(segments))
        for segment in segments:
            inside = wave[int(segment["start"] * RATE) : int(segment["end"] * RATE)]
            assert np.abs(inside).max() > 0.2 * np.abs(wave).max()
    both = [made("audio_grounding", n) for n in range(36)]
    assert {len(r.annotation["segments"]) for r in both} == {1, 2}


def test_two_speak_at_once(corpus):
    for record in of_task(corpus["train"], "overlapped_speech_recognition"):
        alone = [
            len(speak(text, record.annotation["language"], "f1", rate=240).samples)
            for text in record.annotation["texts"]
            if record.annotation["language"] != "ja"
        ]
        # Even said fast, one after the other would take longer.
        assert not alone or wave_of(record).size < sum(alone) * 1.35


def test_dialects_differ_in_every_sentence():
    meanings = itertools.product(range(len(NOUNS["en"])), range(len(ADJECTIVES["en"])))
    for text in (spoken("en", *meaning) for meaning in meanings):
        said = [speak(text, code, "m1").samples for code in DIALECTS.values()]
        for one, other in itertools.combinations(said, 2):
            assert len(one) != len(other) or np.abs(one - other).max() > 0.05, text


@pytest.mark.slow
def test_moods_of_the_voice_are_heard():
    """Joy is higher and quicker than sadness, anger louder at equal peak."""
    records = [made("emotion_recognition", n) for n in range(24)]
    by_mood = {}
    for record in records:
        by_mood.setdefault(record.annotation["text"], []).append(wave_of(record))
    pitch = {
        mood: np.median([np.nanmedian(pitch_of(w, 60, 500)) for w in waves])
        for mood, waves in by_mood.items()
    }
    seconds = {mood: np.mean([w.size for w in waves]) for mood, waves in by_mood.items()}
    level = {
        mood: np.mean([np.sqrt(np.mean(w**2)) / np.abs(w).max() for w in waves])
        for mood, waves in by_mood.items()
    }
    assert pitch["joy"] > 1.2 * pitch["sadness"]
    assert seconds["sadness"] > 1.2 * seconds["joy"]
    assert level["anger"] > 1.3 * level["neutral"]


def test_children_have_higher_formants_than_adults():
    records = [made("speaker_age", n) for n in range(48)]
    centroid = {
        age: np.median(
            [
                librosa.feature.spectral_centroid(y=wave_of(r), sr=RATE).mean()
                for r in records
                if r.annotation["text"] == age
            ]
        )
        for age in ("child", "adult")
    }
    assert centroid["child"] > 1.1 * centroid["adult"]


def test_a_tune_has_the_intervals_of_its_title():
    """Pitch by pYIN, note by note, on instruments that it can follow."""
    checked = 0
    for ordinal in range(60):
        record = made("music_recognition", ordinal)
        if record.annotation["instrument"] not in ("flute", "violin"):
            continue
        pitches, beats = zip(*TUNES[record.annotation["text"]], strict=True)
        wave = wave_of(record)
        first = np.flatnonzero(np.abs(wave) > 0.05 * np.abs(wave).max())[0]
        beat = 60 / record.annotation["beats_per_minute"]
        f0 = librosa.hz_to_midi(pitch_of(wave, 180, 1200))
        onsets = first / RATE + np.cumsum([0, *beats[:-1]]) * beat
        heard = [
            np.nanmedian(f0[int((on + 0.35 * n * beat) * 50) : int((on + 0.8 * n * beat) * 50) + 1])
            for on, n in zip(onsets, beats, strict=True)
        ]
        wanted = np.array(pitches) + record.annotation["key"]
        assert np.abs(heard - wanted).max() < 0.7, record.annotation
        checked += 1
    assert checked >= 6


@pytest.mark.parametrize("answer", ["rise", "fall"])
def test_a_melody_goes_where_the_answer_says(answer):
    for ordinal in range(0, 64, 4):
        record = made("music_question_answering", ordinal)
        assert record.annotation["text"] in ("rise", "fall")
        if record.annotation["text"] != answer or record.annotation["instrument"] != "flute":
            continue
        f0 = pitch_of(wave_of(record), 180, 1800)
        voiced = f0[np.isfinite(f0)]
        assert (voiced[-10:].mean() > voiced[:10].mean()) == (answer == "rise")


def test_notes_that_are_counted_are_all_different_from_their_neighbours():
    random = np.random.default_rng(0)
    for number in (2, 3, 4, 5, 6) * 40:
        steps = _wandering(number, random)
        assert len(steps) == number
        assert (np.diff(steps) != 0).all()


def test_answers_are_balanced():
    answers = [made("music_question_answering", n).annotation["text"] for n in range(64)]
    counts = {answer: answers.count(answer) for answer in set(answers)}
    assert counts == {
        **dict.fromkeys(("rise", "fall", "faster", "slower", "major", "minor"), 8),
        **dict.fromkeys(("two", "three", "four", "five"), 4),
    }


def test_commands_say_their_slots():
    for ordinal in range(2 * len(COMMANDS)):
        a = made("slot_filling", ordinal).annotation
        assert all(entity["value"] in a["transcript"] for entity in a["entities"])
        assert (a["scenario"], a["action"]) in COMMANDS
