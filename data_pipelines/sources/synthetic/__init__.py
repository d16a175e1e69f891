"""The built-in corpus: every task, conversations and preference pairs, synthesised from a seed.

Speech comes from eSpeak NG, notes and sounds from a few lines of arithmetic. Every label is what
the synthesiser was told to make, so it is true by construction. Training and validation share all
classes and no combination of them, see `split`.
"""

import io
from collections.abc import Collection, Sequence

import numpy as np
import soundfile

from data_pipelines.records import Record, RejectedRecord
from data_pipelines.sources.synthetic import (
    command_tasks,
    music_tasks,
    preference_pairs,
    song_tasks,
    sound_tasks,
    speaker_tasks,
    speech_tasks,
    talks,
)
from data_pipelines.sources.synthetic.split import SPLITS
from data_pipelines.sources.synthetic.vocal_sounds import vocal_sound_named

# How each task is made, and its share of the records.
_TASKS = {
    "asr": (speech_tasks.transcribed, 4),
    "note_analysis": (music_tasks.note_analysed, 4),
    "audio_question_answering": (sound_tasks.asked, 4),
    "speech_translation": (speech_tasks.translated, 3),
    "word_timestamps": (speech_tasks.timed, 3),
    "language_identification": (speech_tasks.language_named, 2),
    "keyword_spotting": (speech_tasks.keyword, 2),
    "instrument_classification": (music_tasks.instrument_named, 2),
    "sound_event_classification": (sound_tasks.event_named, 2),
    "acoustic_scene_classification": (sound_tasks.scene_named, 2),
    "sound_event_detection": (sound_tasks.events_detected, 2),
    "audio_captioning": (sound_tasks.captioned, 2),
    "speaker_gender": (speech_tasks.gender_named, 1),
    "speaker_verification": (speech_tasks.verified, 1),
    "overlapped_speech_recognition": (speaker_tasks.overlapped, 2),
    "dialect_speech_recognition": (speaker_tasks.dialect_transcribed, 2),
    "dialect_identification": (speaker_tasks.dialect_named, 2),
    "emotion_recognition": (speaker_tasks.emotion_named, 2),
    "speaker_age": (speaker_tasks.age_named, 2),
    "speaker_diarization": (speaker_tasks.diarized, 2),
    "entity_recognition": (command_tasks.entities_recognised, 2),
    "intent_classification": (command_tasks.commanded, 2),
    "slot_filling": (command_tasks.commanded, 2),
    "vocal_sound_classification": (vocal_sound_named, 2),
    "audio_grounding": (sound_tasks.grounded, 2),
    "singer_identification": (song_tasks.singer_named, 2),
    "music_emotion": (song_tasks.mood_named, 2),
    "music_captioning": (song_tasks.music_captioned, 2),
    "genre_classification": (song_tasks.genre_named, 2),
    "music_recognition": (song_tasks.tune_recognised, 2),
    "music_question_answering": (song_tasks.music_asked, 3),
}

TASKS = tuple(_TASKS)
"""What a build makes unless it is told otherwise: those of pre-training."""

# Made only where they are asked for.
_MAKERS = _TASKS | {"chat": (talks.talked, 4), "preference": (preference_pairs.preferred, 4)}

_SAMPLE = 64  # records at least whose lengths stand for all


class Jobs(Sequence):
    """What `make` is to make: the first `count` records of a split.

    Tasks take turns, those with a larger share more often; every task is in the first turn. More
    records begin with the same ones as fewer. A job is
    (split, seed, index in the split, task, index within the task), found from its index alone, so
    any number of them takes no memory.
    """

    def __init__(self, split: str, count: int, seed: int, tasks: Collection[str] = TASKS):
        """Args:
        split: "train" or "validation".
        count: number of records.
        seed: 0 or greater.
        tasks: which.

        Raises:
            ValueError: an unknown split.
            RejectedRecord: an unknown task; the sentence names the known ones.
        """
        if split not in SPLITS:
            raise ValueError(f"split {split!r}: must be one of {', '.join(SPLITS)}")
        if unknown := [task for task in tasks if task not in _MAKERS]:
            raise RejectedRecord(f"--tasks: {unknown[0]!r} is none of {', '.join(_MAKERS)}")
        shares = {task: share for task, (_, share) in _MAKERS.items() if task in tasks}
        self._split, self._count, self._seed, self._shares = split, count, seed, shares
        # A task with its number in the round, for each turn of a round.
        self._round = [
            (task, n) for n in range(max(shares.values())) for task in shares if shares[task] > n
        ]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if not 0 <= index < self._count:
            raise IndexError(index)
        rounds, turn = divmod(index, len(self._round))
        task, number = self._round[turn]
        return (self._split, self._seed, index, task, rounds * self._shares[task] + number)

    def first_rounds(self) -> "Jobs":
        """The first whole rounds, in which the shares of all tasks are exact."""
        rounds = -(-_SAMPLE // len(self._round))
        return Jobs(self._split, rounds * len(self._round), self._seed, self._shares)


def mean_seconds(jobs: Jobs) -> float:
    """Audio of a record of these tasks, by those of the first rounds."""
    first = jobs.first_rounds()
    clips = [io.BytesIO(audio) for job in first for audio in make(job).audio]
    return sum(soundfile.info(clip).duration for clip in clips) / len(first)


def row_of(job: tuple[str, int, int, str, int]) -> int:
    """The number of a job's record in its split, from 1."""
    return job[2] + 1


def size_of(job: tuple[str, int, int, str, int]) -> int:
    """Bytes of a job's audio: it takes making it."""
    return sum(map(len, make(job).audio))


def make(job: tuple[str, int, int, str, int]) -> Record:
    """The record of a job: the same bytes in any process and in any order.

    Raises:
        ImportError: a speech task, and espeakng_loader is not installed.
    """
    split, seed, index, task, ordinal = job
    rng = np.random.default_rng(np.random.SeedSequence((seed, SPLITS.index(split), index)))
    maker, _ = _MAKERS[task]
    audio, annotation = maker(split == "validation", ordinal, rng)
    return Record(
        id=f"synthetic-{seed}-{split}-{index:07d}",
        task=task,
        audio=audio,
        # Made by this program, so under this program's licence.
        annotation={**annotation, "source": "synthetic", "license": "Apache-2.0"},
    )
