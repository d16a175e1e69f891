"""Talks of two to four turns, in which later ones refer back to earlier clips and answers.

Most answers need a clip; every third talk ends with one that the earlier answers tell.
"""

from collections.abc import Sequence

from data_pipelines.sources.synthetic.notes import INSTRUMENTS
from data_pipelines.sources.synthetic.one_clip_talks import PERSONS, WORDINGS
from data_pipelines.sources.synthetic.phrases import KEYWORDS, LANGUAGES
from data_pipelines.sources.synthetic.several_clip_talks import in_all
from data_pipelines.sources.synthetic.sound_tasks import COUNTS, NAMES, PLURALS, mixture, named
from data_pipelines.sources.synthetic.speech_tasks import CODES
from data_pipelines.sources.synthetic.split import choose
from data_pipelines.sources.synthetic.spoken_questions import ROOMS, lights, lit
from data_pipelines.sources.synthetic.talk_clips import (
    Draw,
    Heard,
    Turn,
    counted,
    higher_of,
    instrument,
    sounds_in_turn,
    speech,
    strokes,
    turn_of,
    two_notes,
    word,
)
from data_pipelines.sources.synthetic.voice_talks import told, user

_PRONOUNS = {"female": "she", "male": "he"}


def conversed(validation: bool, ordinal: int, rng: Draw) -> list[Turn]:
    """several_turns: threads in turn."""
    thread = _THREADS[ordinal % len(_THREADS)]
    return thread(validation, ordinal // len(_THREADS), rng)


def _lights(validation: bool, ordinal: int, rng: Draw) -> list[Turn]:
    """Aloud: lights in a room, in another one, in a third or back again.

    Validation has talks that begin with a sentence by a voice that never began with it in training.
    """
    state = ("on", "off")[ordinal % 2]
    room = ROOMS[ordinal // 2 % len(ROOMS)]
    others = [name for name in ROOMS if name != room]
    second, third = (others[i] for i in rng.choice(len(others), 2, replace=False))
    said = lights(room, state).said
    by = user(said, validation, rng)
    commands = [(said, room, state), (f"and in the {second}", second, state)]
    course = turn_of(ordinal // 2, len(ROOMS), 3)
    if course:
        commands.append((f"and in the {third}", third, state))
    if course != 1:
        back, where = {"on": "off", "off": "on"}[state], commands[-1][1]
        commands.append((f"turn them {back} again", where, back))
    return [
        Turn("lights", (told(text, by, validation, rng),), "", lit(where, now))
        for text, where, now in commands
    ]


def _sounds(validation: bool, ordinal: int, rng: Draw) -> list[Turn]:
    one, other = mixture(validation, 2, rng, (NAMES[ordinal % len(NAMES)],))
    turns = first_and_second(sounds_in_turn([one, other], validation, rng), (one, other))
    if turn_of(ordinal, len(NAMES), 3) == 0:
        text = "Say only the word that came last."
        turns.append(Turn("last_word", (), text, f"{other.capitalize()}."))
    return turns


def first_and_second(clip: Heard, names: Sequence[str]) -> list[Turn]:
    """What comes first in a clip, and what then."""
    first, second = map(named, names)
    return [
        Turn("first_sound", (clip,), "Which sound comes first?", f"First comes {first}."),
        Turn("second_sound", (), "And after that?", f"Then comes {second}."),
    ]


def _instruments(validation: bool, ordinal: int, rng: Draw) -> list[Turn]:
    """Two notes of two instruments, and then a third, or which of them is higher, louder, first."""
    column = ordinal % len(INSTRUMENTS)
    velocities = ((50, 127), (127, 50))[int(rng.integers(2))]
    notes = two_notes(column, validation, rng, velocities)
    first, second = (heard.facts["instrument"] for heard in notes)
    turns = [
        _asked(notes[0], choose(WORDINGS["instrument"], rng)),
        _asked(notes[1], "And this one?"),
    ]
    ending = turn_of(ordinal, len(INSTRUMENTS), 4)
    if ending == 0:
        third = instrument(int(rng.integers(len(INSTRUMENTS))), validation, rng)
        turns.append(_asked(third, "And this one?"))
    elif ending == 1:
        answer = f"The {higher_of(*notes)} is higher."
        turns.append(Turn("higher", (), "Which of the two is higher?", answer))
    elif ending == 2:
        louder = velocities[1] > velocities[0]
        answer = f"{'Yes' if louder else 'No'}, the {second} is {'louder' if louder else 'softer'}."
        turns.append(Turn("louder", (), "Is it louder than the one before?", answer))
    else:
        answer = f"The first one was {named(first)}."
        turns.append(Turn("first_one", (), "And what was the first one?", answer))
    return turns


def _asked(heard: Heard, text: str) -> Turn:
    return Turn("instrument", (heard,), text, f"It is {named(heard.facts['instrument'])}.")


def _counts(validation: bool, ordinal: int, rng: Draw) -> list[Turn]:
    count, name = ordinal % len(COUNTS) + 1, tuple(PLURALS)[ordinal % len(PLURALS)]
    other = choose([n for n in range(1, len(COUNTS) + 1) if n != count], rng)
    clips = [strokes(name, number, validation, rng) for number in (count, other)]
    text = choose(WORDINGS["count"], rng).format(PLURALS[name])
    verbs = ["is" if number == 1 else "are" for number in (count, other)]
    compared = "More" if other > count else "Fewer"
    turns = [
        Turn("count", (clips[0],), text, f"There {verbs[0]} {counted(name, count)}."),
        Turn(
            "more_or_fewer",
            (clips[1],),
            "And here, more or fewer?",
            f"{compared}, there {verbs[1]} {counted(name, other)}.",
        ),
    ]
    if ordinal // len(PLURALS) % 3 == 0:
        turns.append(Turn("total", (), "How many are there in all?", in_all(name, count + other)))
    return turns


def _speaker(validation: bool, ordinal: int, rng: Draw) -> list[Turn]:
    """Who speaks and in which language, then the same of a second speaker in one answer."""
    gender = ("female", "male")[ordinal % 2]
    code = CODES[ordinal // 2 % len(CODES)]
    pronoun = _PRONOUNS[gender]
    clip = speech(code, gender, validation, rng)
    text = choose(WORDINGS["speaker"], rng)
    turns = [
        Turn("speaker", (clip,), text, f"It is {PERSONS[gender]}."),
        Turn("language", (), f"Which language does {pronoun} speak?", _speaks(clip)),
    ]
    if ordinal // 2 % 3 == 0:
        second = speech(choose(CODES, rng), choose(tuple(PERSONS), rng), validation, rng)
        turns.append(Turn("speaks", (second,), "And this speaker?", _speaks(second)))
    return turns


def _speaks(heard: Heard) -> str:
    pronoun, language = _PRONOUNS[heard.facts["gender"]], LANGUAGES[heard.facts["language"]]
    return f"{pronoun.capitalize()} speaks {language}."


def _words(validation: bool, ordinal: int, rng: Draw) -> list[Turn]:
    rows = [ordinal % len(KEYWORDS)]
    rows.append(choose([row for row in range(len(KEYWORDS)) if row not in rows], rng))
    first, second = (word(row, validation, rng) for row in rows)
    text = choose(WORDINGS["word"], rng)
    turns = [
        Turn("word", (first,), text, f"The word is {KEYWORDS[rows[0]]}."),
        Turn("word", (second,), "And this one?", f"The word is {KEYWORDS[rows[1]]}."),
    ]
    if ordinal % 3 == 0:
        text = "Say only the word that came first."
        turns.append(Turn("first_word", (), text, f"{KEYWORDS[rows[0]].capitalize()}."))
    return turns


_THREADS = (_lights, _sounds, _instruments, _counts, _speaker, _words)
