"""Conversations of the built-in corpus: each answer is what its clips hold."""

import calendar
import collections
import re

import numpy as np
import pytest
from synthetic_talks import (
    asked,
    made,
    of_kind,
    told,
    waves,
)

pytest.importorskip("espeakng_loader")

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight"]
ORDER = ["first", "second", "third"]
OPPOSITES = "up down, left right, on off, yes no, stop go"
NOTES = {60: "C4", 67: "G4", 72: "C5", 77: "F5", 83: "B5"}
STROKES = {"knock": "knock", "dog": "bark", "alarm": "beep"}
NATIVE = {
    "en": "English",
    "zh": "Chinese",
    "de": "German",
    "es": "Spanish",
    "ko": "Korean",
    "fr": "French",
    "ja": "Japanese",
    "it": "Italian",
}
VOICE_SOUNDS = {
    "Laughter": "laughs",
    "Cough": "coughs",
    "Sneeze": "sneezes",
    "Sigh": "sighs",
    "Throat clearing": "clears the throat",
    "Sniff": "sniffs",
}


@pytest.fixture(scope="module")
def corpus():
    return made()


# ------------------------------------------------------------------ what the answers must be


def a(name):
    if name in ("rain", "wind", "thunder"):
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def strokes(name, count):
    return f"{NUMBERS[count]} {STROKES[name]}{'s' if count > 1 else ''}"


def there(name, count):
    return f"here {'are' if count > 1 else 'is'} {strokes(name, count)}"


def to_spoken(facts, rooms):
    """The answer to what is said aloud; `rooms` remembers [room, state] of the lights."""
    said = facts["said"]
    days = [day.lower() for day in calendar.day_name]
    if match := re.fullmatch(r"what is (\w+) plus (\w+)", said):
        return f"That is {NUMBERS[sum(map(NUMBERS.index, match.groups()))]}."
    if match := re.fullmatch(r"what is the opposite of (\w+)", said):
        pair = next(p for p in map(str.split, OPPOSITES.split(", ")) if match[1] in p)
        return f"The opposite is {pair[1 - pair.index(match[1])]}."
    if match := re.fullmatch(r"what day comes after (\w+)", said):
        return f"It is {calendar.day_name[(days.index(match[1]) + 1) % 7]}."
    if match := re.fullmatch(r"turn (on|off) the lights in the (\w+)", said):
        rooms[:] = [match[2], match[1]]
    elif match := re.fullmatch(r"and in the (\w+)", said):
        rooms[0] = match[1]
    elif match := re.fullmatch(r"turn them (on|off) again", said):
        assert rooms[1] != match[1]
        rooms[1] = match[1]
    else:
        return to_command(said, facts)
    return "The lights in the {} are {}.".format(*rooms)


def to_command(said, facts):
    name = said.split()[-1]
    topic = facts.get("before", ["is the ?"])[0].split()[2]
    return {
        "play some": f"Now {name} is playing.",
        "stop the": f"The {name} has stopped.",
        "how do you spell": f"It is spelled {' '.join(name.upper())}.",
        "which sound do you": f"It is {a(facts.get('behind', '?'))}.",
        "what did they talk": f"They talked about the {topic}.",
    }[said.removesuffix(f" {name}")]


def about_one(text, facts):
    """The answer to a written question about one clip, by what the clip holds."""
    if "said" in text or "speaker say" in text or "word" in text:
        if "word" in facts:
            return f"The word is {facts['word']}."
        return f"The speaker says {facts['transcript']}."
    if "anguage" in text:
        return f"The language is {NATIVE[facts['language']]}."
    if "woman" in text:
        return f"It is a {'wo' * (facts['gender'] == 'female')}man."
    if "note" in text:
        return f"It is the note {NOTES[facts['pitch']]}."
    if "sound comes first" in text:
        return f"First comes {a(facts['sounds'][0])}."
    if "scene" in facts:
        return f"This is {a(facts['scene'])}."
    if "voice_sound" in facts:
        return f"Someone {VOICE_SOUNDS[facts['voice_sound']]}."
    if "emotion" in facts:
        return f"The emotion is {facts['emotion']}."
    if "How many" in text:
        assert STROKES[facts["sound"]] in text
        return f"T{there(facts['sound'], facts['count'])}."
    return f"It is {a(facts.get('instrument', facts.get('sound')))}."


def about_several(text, clips):
    """The answer to a written question about the clips of one turn."""
    names = [clip.get("sound", clip.get("instrument")) for clip in clips]
    if text.startswith("How many"):
        return f"There are {strokes(names[0], sum(c['count'] for c in clips))} in all."
    if "higher" in text:
        return f"The {max(clips, key=lambda c: c['pitch'])['instrument']} is higher."
    if "longer" in text:
        return f"The {max(clips, key=lambda c: c['seconds'])['sound']} is longer."
    if "same" in text:
        one, other = names
        if one == other:
            return f"Both clips have {a(one)}."
        return f"One has {a(one)}, the other {a(other)}."
    if match := re.search("in the (first|second|third) clip", text):
        return f"The {match[1]} clip has {a(names[ORDER.index(match[1])])}."
    if match := re.search("|".join(NATIVE.values()), text):
        spoken = [NATIVE[clip["language"]] for clip in clips]
        assert spoken.count(match[0]) == 1
        return f"The {ORDER[spoken.index(match[0])]} clip is in {match[0]}."
    if match := re.search(r"the (\w+)\?", text):
        assert names.count(match[1]) == 1
        return f"The {match[1]} is in the {ORDER[names.index(match[1])]} clip."
    return f"First {a(names[0])}, then {a(names[1])}."


def about_earlier(text, new, clips):
    """The answer to a later turn, by the clips so far."""
    first, *_, last = [*clips, clips[-1]]
    if "has it too" in text or "heard again" in text:
        return f"The {ORDER[[c['sound'] for c in new].index(first['sound'])]} of them."
    if text == "And after that?":
        return f"Then comes {a(first['sounds'][1])}."
    if text == "Say only the word that came last.":
        return f"{first['sounds'][-1].title()}."
    if text == "Say only the word that came first.":
        return f"{first['word'].title()}."
    if text == "And what was the first one?":
        return f"The first one was {a(first['instrument'])}."
    if "higher" in text or "in all" in text:
        return about_several(text.replace("in all", "").strip(), clips)
    if "louder" in text:
        louder = last["velocity"] > first["velocity"]
        return (
            f"{('No', 'Yes')[louder]}, the {last['instrument']} is {('softer', 'louder')[louder]}."
        )
    if "more or fewer" in text:
        assert first["sound"] == last["sound"]
        more = last["count"] > first["count"]
        return f"{('Fewer', 'More')[more]}, t{there(last['sound'], last['count'])}."
    if "speak" in text:
        one = {"female": "She", "male": "He"}[last["gender"]]
        assert new or f"does {one.lower()} speak" in text
        return f"{one} speaks {NATIVE[last['language']]}."
    assert text == "And this one?"
    return about_one("word" if "word" in last else "", last)


def true_answers(record):
    rooms, answers = ["", ""], []
    for number, (text, new, clips, _) in enumerate(told(record)):
        if not text:
            answers.append(to_spoken(*new, rooms))
        elif number:
            answers.append(about_earlier(text, new, clips))
        elif len(new) > 1:
            answers.append(about_several(text, new))
        else:
            answers.append(about_one(text, *new))
    return answers


def test_every_answer_is_what_the_clips_hold(corpus):
    for records in corpus.values():
        for record in records:
            assert [answer for *_, answer in told(record)] == true_answers(record)


# ------------------------------------------------------------------ and the clips hold it


def lowest_partial(wave):
    """Hz of the lowest tone of a note that is within 20 dB of its strongest."""
    level = np.abs(np.fft.rfft(wave * np.hanning(wave.size), 1 << 15))
    first = np.flatnonzero(level > 0.1 * level.max())[0]
    around = level[first : first + 60]
    return (first + np.argmax(around)) * 16_000 / (1 << 15)


def test_the_higher_the_longer_and_the_louder_are(corpus):
    records = [record for split in corpus.values() for record in split]
    checked = collections.Counter()
    for record, (_, clips, _, _) in asked(records, "longer"):
        seconds = [wave.size / 16_000 for wave in waves(record)]
        by_facts = [clip["seconds"] for clip in clips]
        assert np.argmax(seconds) == np.argmax(by_facts)
        assert max(seconds) > 1.6 * min(seconds)
        checked["longer"] += 1
    for record, _ in asked(records, "louder"):
        level = [np.sqrt(np.mean(wave**2)) for wave in waves(record)]
        velocity = [clip["velocity"] for clip in record.annotation["heard"]]
        assert np.argmax(level) == np.argmax(velocity)
        assert max(level) > 1.5 * min(level), record.annotation["heard"]
        checked["louder"] += 1
    for record, (_, _, clips, _) in asked(records, "higher"):
        pitches = [lowest_partial(wave) for wave in waves(record)]
        for pitch, clip in zip(pitches, clips, strict=True):
            assert abs(12 * np.log2(pitch / 440) + 69 - clip["pitch"]) < 1, clip
        checked["higher"] += 1
    assert min(checked.values()) >= 5
    assert len(checked) == 3


def test_as_many_strokes_as_are_counted(corpus):
    """Rises of the level above a quarter of the loudest stroke, after a gap of 0.1 s."""
    checked = 0
    for record in corpus["train"]:
        for wave, facts in zip(waves(record), record.annotation["heard"], strict=True):
            if "count" in facts:
                # The same for any count, so that the length of a clip does not tell it.
                assert wave.size == int(1.45 * 16_000)
                loud = np.flatnonzero(np.abs(wave) > 0.25 * np.abs(wave).max())
                assert 1 + np.sum(np.diff(loud) > 1600) == facts["count"], facts
                checked += 1
    assert checked > 50


def test_a_command_comes_after_two_others_and_a_sound(corpus):
    for records in corpus.values():
        voice = of_kind(records, "voice_chat")
        overheard = [r for r in voice if "before" in r.annotation["heard"][0]]
        assert overheard == voice[4::5]
        for record in overheard:
            facts = record.annotation["heard"][0]
            assert len({facts["voice"], *facts["voices"]}) == 3
            assert facts["before"][1] in ("yes", "no")
            # Two sentences before the user's own.
            assert waves(record)[0].size > 1.6 * 16_000
        assert {r.annotation["asked"][0] for r in overheard} >= {
            "overheard_sound",
            "overheard_topic",
        }


def test_who_speaks_may_wait_a_moment_before_and_after(corpus):
    """As people who start a recorder do: some at once, some after a third of a second."""
    waited = []
    for record in corpus["train"]:
        for wave, facts in zip(waves(record), record.annotation["heard"], strict=True):
            if "said" in facts and "behind" not in facts:
                loud = np.flatnonzero(np.abs(wave) > 0.05 * np.abs(wave).max())
                waited.append((loud[0] / 16_000, (wave.size - loud[-1]) / 16_000))
    for side in np.array(waited).T:
        assert side.min() < 0.08
        assert np.quantile(side, 0.9) > 0.2
        assert side.max() < 0.75
