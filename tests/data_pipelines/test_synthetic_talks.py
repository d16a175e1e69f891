"""Conversations of the built-in corpus: true, split, balanced, and not to be guessed from text."""

import calendar
import collections
import io
import json
import multiprocessing
import re

import numpy as np
import pytest
import soundfile

from data_pipelines import build
from data_pipelines.build_flags import read_flags
from data_pipelines.records import Corpus
from data_pipelines.sources import synthetic
from data_pipelines.sources.synthetic.spoken_questions import FAMILIES
from data_pipelines.sources.synthetic.voice_talks import _of_the_world
from qwen_audio_jax.rendering.chat import turns
from qwen_audio_jax.tasks import check_annotation
from qwen_audio_jax.tasks.conversation import check_talk

pytest.importorskip("espeakng_loader")

KINDS = ["voice_chat", "audio_analysis", "several_clips", "several_turns"]
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
RECALLED = {"last_word", "first_word", "first_one", "total"}
"""What is asked for that earlier answers tell, where the turn has no clip."""


def talks(split, count, seed=3):
    return [synthetic.make(job) for job in synthetic.Jobs(split, count, seed, ["chat"])]


@pytest.fixture(scope="module")
def corpus():
    return {"train": talks("train", 400), "validation": talks("validation", 160)}


def of_kind(records, kind):
    return [record for record in records if record.annotation["kind"] == kind]


def asked(records, what):
    """(record, facts of the clips up to that answer) of all answers to one kind of question."""
    for record in records:
        for turn, asks in zip(told(record), record.annotation["asked"], strict=True):
            if asks == what:
                yield record, turn


def told(record):
    """The turns: (written text, facts of the turn's clips, those of all so far, answer)."""
    heard, listed = record.annotation["heard"], []
    for user, assistant in turns(record.annotation["messages"]):
        parts = user["content"]
        new = sum(part["type"] == "audio" for part in parts)
        start = sum(len(turn[1]) for turn in listed)
        text = "".join(part.get("text", "") for part in parts)
        listed.append(
            (text, heard[start : start + new], heard[: start + new], assistant["content"])
        )
    return listed


def waves(record):
    return [soundfile.read(io.BytesIO(audio))[0] for audio in record.audio]


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
                assert 0.2 < info.duration < (2.1 if many else 3.5)
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
