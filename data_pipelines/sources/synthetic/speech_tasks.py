"""The speech tasks of the synthetic corpus: who speaks, what is said, and its labels."""

import dataclasses
from typing import Any

import numpy as np

from data_pipelines.sources.synthetic.clips import clip, silence
from data_pipelines.sources.synthetic.phrases import ADJECTIVES as _ADJECTIVES
from data_pipelines.sources.synthetic.phrases import KEYWORDS, LANGUAGES, NOUNS, spoken, written
from data_pipelines.sources.synthetic.speech import SAMPLE_RATE, Utterance, speak
from data_pipelines.sources.synthetic.split import choose, is_validation, is_validation_set, pairs

Made = tuple[tuple[bytes, ...], dict[str, Any]]

CODES = tuple(LANGUAGES)
FEMALE = ("f1", "f2", "f3", "f4", "f5", "Annie", "belinda", "Andrea")
MALE = ("m1", "m2", "m3", "m4", "m6", "m7", "m8", "Mike")
VOICES = FEMALE + MALE

_MEANINGS = (len(NOUNS["en"]), len(_ADJECTIVES["en"]))


@dataclasses.dataclass(frozen=True)
class Speaker:
    """A voice variant with its pitch, 0..99, and words per minute."""

    voice: str
    pitch: int
    rate: int

    def labels(self) -> dict[str, Any]:
        gender = "female" if self.voice in FEMALE else "male"
        return {"voice": self.voice, "gender": gender, "voice_pitch": self.pitch}


def speaker(rng: np.random.Generator, voices: tuple[str, ...] = VOICES) -> Speaker:
    """A voice with a pitch that stays within its gender's range, and a rate in words per minute."""
    return Speaker(choose(voices, rng), int(rng.integers(40, 61)), int(rng.integers(160, 201)))


def say(text: str, language: str, by: Speaker) -> Utterance:
    """`text` as the speaker says it."""
    return speak(text, language, by.voice, by.pitch, by.rate)


def recorded(utterance: Utterance, rng: np.random.Generator) -> tuple[bytes, float]:
    """The clip with some quiet around it, and the seconds of quiet before the speech."""
    lead = round(rng.uniform(0.02, 0.12), 3)
    tail = rng.uniform(0.02, 0.1)
    wave = np.concatenate((silence(lead), utterance.samples, silence(tail)))
    return clip(wave, rng), int(lead * SAMPLE_RATE) / SAMPLE_RATE


def sentence(validation: bool, rng: np.random.Generator) -> tuple[int, int]:
    """Noun and adjective, a pair that only this split has."""
    return choose(pairs(validation, *_MEANINGS), rng)


def transcribed(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """The asr task."""
    language = CODES[ordinal % len(CODES)]
    meaning, by = sentence(validation, rng), speaker(rng)
    audio, _ = recorded(say(spoken(language, *meaning), language, by), rng)
    return (audio,), {"text": written(language, *meaning), "language": language, **by.labels()}


def translated(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """speech_translation, to and from English in turn."""
    other = CODES[1:][ordinal // 2 % (len(CODES) - 1)]
    language, target = (other, "en") if ordinal % 2 == 0 else ("en", other)
    meaning, by = sentence(validation, rng), speaker(rng)
    audio, _ = recorded(say(spoken(language, *meaning), language, by), rng)
    return (audio,), {
        "text": written(target, *meaning),
        "language": language,
        "target_language": target,
        "transcript": written(language, *meaning),
        **by.labels(),
    }


def timed(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """word_timestamps: times in seconds from the start of the clip, to 0.01 s."""
    language = CODES[ordinal % len(CODES)]
    meaning, by = sentence(validation, rng), speaker(rng)
    utterance = say(spoken(language, *meaning), language, by)
    audio, lead = recorded(utterance, rng)
    words = [
        {"word": word, "start": round(lead + start, 2), "end": round(lead + end, 2)}
        for word, start, end in utterance.words
    ]
    text = written(language, *meaning)
    return (audio,), {"words": words, "text": text, "language": language, **by.labels()}


def unheard_voices(validation: bool, row: int, voices: tuple[str, ...]) -> tuple[str, ...]:
    """The voices that this split has for the row: a language or a keyword."""
    return tuple(v for v in voices if is_validation(row, VOICES.index(v)) == validation)


def language_named(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """language_identification: validation has unseen sentences by voices new to the language."""
    row = ordinal % len(CODES)
    language, meaning = CODES[row], sentence(validation, rng)
    by = speaker(rng, unheard_voices(validation, row, VOICES))
    audio, _ = recorded(say(spoken(language, *meaning), language, by), rng)
    return (audio,), {
        "text": LANGUAGES[language],
        "language": language,
        "transcript": written(language, *meaning),
        **by.labels(),
    }


def gender_named(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """speaker_gender: validation has unseen sentences by voices new to the language."""
    gender, row = ("female", "male")[ordinal % 2], ordinal // 2 % len(CODES)
    language, meaning = CODES[row], sentence(validation, rng)
    by = speaker(rng, unheard_voices(validation, row, FEMALE if gender == "female" else MALE))
    audio, _ = recorded(say(spoken(language, *meaning), language, by), rng)
    return (audio,), {
        "text": gender,
        "language": language,
        "transcript": written(language, *meaning),
        **by.labels(),
    }


def keyword(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """keyword_spotting: validation has keywords by voices that never said them in training."""
    row = ordinal % len(KEYWORDS)
    by = speaker(rng, unheard_voices(validation, row, VOICES))
    audio, _ = recorded(say(KEYWORDS[row], "en", by), rng)
    return (audio,), {"text": KEYWORDS[row], "language": "en", **by.labels()}


def verified(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """speaker_verification: two different sentences of one language.

    The same speaker is the same voice at the same pitch; two speakers are two voices, a pair of
    which is in one split only.
    """
    same = ordinal % 2 == 0
    language = CODES[ordinal // 2 % len(CODES)]
    options = pairs(validation, *_MEANINGS)
    first, second = (options[i] for i in rng.choice(len(options), 2, replace=False))
    one = two = speaker(rng)
    if not same:
        mine = VOICES.index(one.voice)
        others = tuple(
            voice
            for i, voice in enumerate(VOICES)
            if i != mine and is_validation_set((mine, i)) == validation
        )
        two = speaker(rng, others)
    clips = tuple(
        recorded(say(spoken(language, *meaning), language, by), rng)[0]
        for meaning, by in ((first, one), (second, two))
    )
    return clips, {
        "text": "same" if same else "different",
        "language": language,
        "voices": [one.voice, two.voice],
        "transcripts": [written(language, *first), written(language, *second)],
    }
