"""Audio analysis: one clip and a written question about it, answered in a sentence."""

from collections.abc import Callable

from data_pipelines.sources.synthetic.notes import INSTRUMENTS, PITCHES
from data_pipelines.sources.synthetic.phrases import KEYWORDS, LANGUAGES
from data_pipelines.sources.synthetic.scenes import SCENES
from data_pipelines.sources.synthetic.sound_tasks import COUNTS, NAMES, PLURALS, named
from data_pipelines.sources.synthetic.speaker_tasks import EMOTIONS
from data_pipelines.sources.synthetic.speech_tasks import CODES
from data_pipelines.sources.synthetic.split import choose, is_validation
from data_pipelines.sources.synthetic.talk_clips import (
    VOICE_SOUNDS,
    Draw,
    Heard,
    Turn,
    counted,
    instrument,
    mood,
    place,
    single_note,
    sound,
    speech,
    strokes,
    voice_sound,
    word,
)

Asked = tuple[Heard, str]  # the clip and the answer

_NOTES = {"C4": 60, "G4": 67, "C5": 72, "F5": 77, "B5": 83}
"""Names and MIDI numbers of the notes that are asked for: at least five semitones apart."""

_ACTIONS = {
    "Laughter": "laughs",
    "Cough": "coughs",
    "Sneeze": "sneezes",
    "Sigh": "sighs",
    "Throat clearing": "clears the throat",
    "Sniff": "sniffs",
}
_GENDERS = ("female", "male")
PERSONS = {"female": "a woman", "male": "a man"}

# The wordings of each question. Those that tell the sound to count have a place for its plural.
WORDINGS = {
    "sound": ("What sound is this?", "Which sound do you hear?"),
    "instrument": ("Which instrument is this?", "What instrument is playing?"),
    "note": ("Which note is this?", "What note is played?"),
    "count": ("How many {} are heard?", "How many {} do you hear?"),
    "scene": ("Which place is this?", "Where was this recorded?"),
    "voice_sound": ("What does the person do?", "What is this person doing?"),
    "emotion": ("How does the speaker feel?", "What is the emotion of the speaker?"),
    "speaker": ("Is it a man or a woman?", "Who is speaking, a man or a woman?"),
    "language": ("Which language is spoken?", "What language is this?"),
    "word": ("Which word is said?", "What word do you hear?"),
    "said": ("What does the speaker say?", "What is said?"),
}


def analysed(validation: bool, ordinal: int, rng: Draw) -> list[Turn]:
    """audio_analysis: questions in turn, and each with its answers in turn."""
    asks = tuple(_ASKED)[ordinal % len(_ASKED)]
    heard, answer = _ASKED[asks](validation, ordinal // len(_ASKED), rng)
    text = choose(WORDINGS[asks], rng)
    if asks == "count":
        text = text.format(PLURALS[heard.facts["sound"]])
    return [Turn(asks, (heard,), text, answer)]


def _sound(validation: bool, ordinal: int, rng: Draw) -> Asked:
    name = NAMES[ordinal % len(NAMES)]
    return sound(name, validation, rng), f"It is {named(name)}."


def _instrument(validation: bool, ordinal: int, rng: Draw) -> Asked:
    column = ordinal % len(INSTRUMENTS)
    return instrument(column, validation, rng), f"It is {named(INSTRUMENTS[column])}."


def _note(validation: bool, ordinal: int, rng: Draw) -> Asked:
    name = tuple(_NOTES)[ordinal % len(_NOTES)]
    row = PITCHES.index(_NOTES[name])
    able = [i for i in range(len(INSTRUMENTS)) if is_validation(row, i) == validation]
    heard = single_note(choose(able, rng), row, choose((75, 100, 127), rng), rng)
    return heard, f"It is the note {name}."


def _count(validation: bool, ordinal: int, rng: Draw) -> Asked:
    count = ordinal % len(COUNTS) + 1
    name = tuple(PLURALS)[ordinal // len(COUNTS) % len(PLURALS)]
    verb = "is" if count == 1 else "are"
    return strokes(name, count, validation, rng), f"There {verb} {counted(name, count)}."


def _scene(validation: bool, ordinal: int, rng: Draw) -> Asked:
    row = ordinal % len(SCENES)
    return place(row, validation, rng), f"This is {named(tuple(SCENES)[row])}."


def _voice_sound(validation: bool, ordinal: int, rng: Draw) -> Asked:
    row = ordinal % len(VOICE_SOUNDS)
    return voice_sound(row, validation, rng), f"Someone {_ACTIONS[VOICE_SOUNDS[row]]}."


def _emotion(validation: bool, ordinal: int, rng: Draw) -> Asked:
    row = ordinal % len(EMOTIONS)
    return mood(row, validation, rng), f"The emotion is {tuple(EMOTIONS)[row]}."


def _speaker(validation: bool, ordinal: int, rng: Draw) -> Asked:
    gender = _GENDERS[ordinal % 2]
    heard = speech(CODES[ordinal // 2 % len(CODES)], gender, validation, rng)
    return heard, f"It is {PERSONS[gender]}."


def _language(validation: bool, ordinal: int, rng: Draw) -> Asked:
    code = CODES[ordinal % len(CODES)]
    heard = speech(code, choose(_GENDERS, rng), validation, rng)
    return heard, f"The language is {LANGUAGES[code]}."


def _word(validation: bool, ordinal: int, rng: Draw) -> Asked:
    row = ordinal % len(KEYWORDS)
    return word(row, validation, rng), f"The word is {KEYWORDS[row]}."


def _said(validation: bool, ordinal: int, rng: Draw) -> Asked:
    heard = speech("en", _GENDERS[ordinal % 2], validation, rng)
    return heard, f"The speaker says {heard.facts['transcript']}."


_ASKED: dict[str, Callable[[bool, int, Draw], Asked]] = {
    "sound": _sound,
    "instrument": _instrument,
    "note": _note,
    "count": _count,
    "scene": _scene,
    "voice_sound": _voice_sound,
    "emotion": _emotion,
    "speaker": _speaker,
    "language": _language,
    "word": _word,
    "said": _said,
}
