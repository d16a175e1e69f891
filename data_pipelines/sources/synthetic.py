"""The built-in corpus: fourteen tasks, synthesised from a seed, nothing to download.

Speech comes from eSpeak NG, notes and sounds from a few lines of arithmetic. Every label is what
the synthesiser was told to make, so it is true by construction. Training and validation share all
classes and no combination of them, see `synthetic_split`.
"""

from collections import Counter

import numpy as np

from data_pipelines.records import Record
from data_pipelines.sources import synthetic_music_tasks as music
from data_pipelines.sources import synthetic_sound_tasks as sound
from data_pipelines.sources import synthetic_speech_tasks as speech
from data_pipelines.sources.synthetic_split import SPLITS

# How each task is made, and its share of the records.
_TASKS = {
    "asr": (speech.transcribed, 4),
    "note_analysis": (music.note_analysed, 4),
    "audio_question_answering": (sound.asked, 4),
    "speech_translation": (speech.translated, 3),
    "word_timestamps": (speech.timed, 3),
    "language_identification": (speech.language_named, 2),
    "keyword_spotting": (speech.keyword, 2),
    "instrument_classification": (music.instrument_named, 2),
    "sound_event_classification": (sound.event_named, 2),
    "acoustic_scene_classification": (sound.scene_named, 2),
    "sound_event_detection": (sound.events_detected, 2),
    "audio_captioning": (sound.captioned, 2),
    "speaker_gender": (speech.gender_named, 1),
    "speaker_verification": (speech.verified, 1),
}

Job = tuple[str, int, int, str, int]


def jobs(split: str, count: int, seed: int) -> list[Job]:
    """What `make` is to make: the first `count` records of the split.

    Tasks take turns, those with a larger share more often; every task is among the first fourteen.
    More records begin with the same ones as fewer.

    Args:
        split: "train" or "validation".
        count: number of records.
        seed: 0 or greater.

    Returns:
        (split, seed, index in the split, task, index within the task) for each record.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: must be one of {', '.join(SPLITS)}")
    rounds = max(share for _, share in _TASKS.values())
    turns = [task for n in range(rounds) for task, (_, share) in _TASKS.items() if share > n]
    seen: Counter[str] = Counter()
    made = []
    for index in range(count):
        task = turns[index % len(turns)]
        made.append((split, seed, index, task, seen[task]))
        seen[task] += 1
    return made


def make(job: Job) -> Record:
    """The record of a job: the same bytes in any process and in any order.

    Raises:
        ImportError: a speech task, and espeakng_loader is not installed.
    """
    split, seed, index, task, ordinal = job
    rng = np.random.default_rng(np.random.SeedSequence((seed, SPLITS.index(split), index)))
    maker, _ = _TASKS[task]
    audio, annotation = maker(split == "validation", ordinal, rng)
    return Record(
        id=f"synthetic-{seed}-{split}-{index:07d}",
        task=task,
        audio=audio,
        # Made by this program, so under this program's licence.
        annotation={**annotation, "source": "synthetic", "license": "Apache-2.0"},
    )
