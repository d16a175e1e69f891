"""Voice chat: the user's turn is audio alone, and what is said in it is to be answered.

In every fifth talk the command comes at the end of a clip in which two others talk and something
sounds, as in the Qwen2-Audio report: the command is answered, not what is said before it.
"""

import dataclasses

import numpy as np

from data_pipelines.sources.synthetic.clips import clip, silence
from data_pipelines.sources.synthetic.phrases import ADJECTIVES, NOUNS
from data_pipelines.sources.synthetic.sound_tasks import NAMES, named
from data_pipelines.sources.synthetic.sounds import SAMPLE_RATE, event, place
from data_pipelines.sources.synthetic.speaker_tasks import rows_of_voices
from data_pipelines.sources.synthetic.speech_tasks import (
    VOICES,
    Speaker,
    say,
    sentence,
    speaker,
    unheard_voices,
)
from data_pipelines.sources.synthetic.split import choose, size
from data_pipelines.sources.synthetic.spoken_questions import (
    FAMILIES,
    WHAT_ABOUT,
    WHICH_SOUND,
    Spoken,
    number_of,
)
from data_pipelines.sources.synthetic.talk_clips import Draw, Heard, Turn

_STEP = 17  # prime to the number of sentences of every family
_QUICK = 215  # words per minute of the two who talk before the command
_REACTION, _LONGEST_REACTION = 0.12, 0.5  # seconds


def asked_aloud(validation: bool, ordinal: int, rng: Draw) -> list[Turn]:
    """voice_chat: validation has questions by voices that never asked them in training."""
    if ordinal % 5 == 4:
        return [_overheard(validation, ordinal // 5, rng)]
    number = ordinal - ordinal // 5
    family, spoken = _of_the_world(number)
    heard = told(spoken.said, user(spoken.said, validation, rng), validation, rng)
    return [Turn(family, (heard,), "", spoken.answer)]


def user(begins: str, validation: bool, rng: Draw, not_of: tuple[str, ...] = ()) -> Speaker:
    """A speaker, by none of some voices, whose talk may begin with this sentence."""
    voices = tuple(voice for voice in VOICES if voice not in not_of)
    return speaker(rng, unheard_voices(validation, number_of(begins), voices))


def told(said: str, by: Speaker, validation: bool, rng: Draw) -> Heard:
    """A spoken sentence; in a third of them something sounds behind it, 14 to 20 dB below."""
    wave = say(said, "en", by).samples
    facts = {"said": said, **by.labels()}
    if rng.random() < 1 / 3:
        facts["behind"] = choose(NAMES, rng)
        behind = event(facts["behind"], size(validation, rng), wave.size / SAMPLE_RATE, rng)
        wave = wave + place(wave.size, [(0, rng.uniform(0.1, 0.2) * behind)])
    return Heard(clip(_padded(wave, rng), rng), facts)


def _of_the_world(number: int) -> tuple[str, Spoken]:
    """Families in turn, and the sentences of each, neighbours of which are alike, in steps."""
    family = tuple(FAMILIES)[number % len(FAMILIES)]
    sentences = FAMILIES[family]
    return family, sentences[_STEP * (number // len(FAMILIES)) % len(sentences)]


def _overheard(validation: bool, ordinal: int, rng: Draw) -> Turn:
    """A question, its answer and a sound behind both; then the user's command, in a third voice."""
    name = NAMES[ordinal // 4 % len(NAMES)]
    noun, adjective = sentence(validation, rng)
    if ordinal % 2:
        family, spoken = _of_the_world(ordinal // 2)
    elif ordinal % 4:
        family = "overheard_sound"
        spoken = Spoken(WHICH_SOUND, f"It is {named(name)}.")
    else:
        family, thing = "overheard_topic", NOUNS["en"][noun]
        spoken = Spoken(WHAT_ABOUT, f"They talked about the {thing}.")
    voices = choose(rows_of_voices(validation, 2), rng)
    texts = (
        f"is the {NOUNS['en'][noun]} {ADJECTIVES['en'][adjective]}",
        choose(("yes", "no"), rng),
    )
    talkers = [dataclasses.replace(speaker(rng, (voice,)), rate=_QUICK) for voice in voices]
    one, other = (say(text, "en", by).samples for text, by in zip(texts, talkers, strict=True))
    both = np.concatenate((one, silence(0.08), other))
    behind = event(name, size(validation, rng), both.size / SAMPLE_RATE, rng)
    scene = 0.7 * both + place(both.size, [(0, rng.uniform(0.3, 0.45) * behind)])
    by = user(spoken.said, validation, rng, voices)
    wave = np.concatenate((scene, silence(0.15), say(spoken.said, "en", by).samples))
    facts = {
        "said": spoken.said,
        **by.labels(),
        "behind": name,
        "before": list(texts),
        "voices": list(voices),
    }
    return Turn(family, (Heard(clip(_padded(wave, rng), rng), facts),), "", spoken.answer)


def _padded(wave: np.ndarray, rng: Draw) -> np.ndarray:
    """As recorded by hand: one begins to speak when the recorder runs, and then stops it."""
    before, after = np.minimum(0.02 + rng.exponential(_REACTION, 2), _LONGEST_REACTION)
    return np.concatenate((silence(before), wave, silence(after)))
