"""Preference pairs of the built-in corpus: which answer is right, and that text does not tell."""

import collections
import json

import pytest

from data_pipelines import build
from data_pipelines.records import Corpus
from data_pipelines.sources import synthetic
from qwen_audio_jax.metrics import Answer, score_by_part
from qwen_audio_jax.tasks import check_annotation
from qwen_audio_jax.tasks.conversation import places

pytest.importorskip("espeakng_loader")

KINDS = [
    "absent_sound",
    "present_sound",
    "invented_sound",
    "wrong_count",
    "invented_word",
    "refusal",
    "other_clip",
    "rambling",
]
NUMBERS = ["no", "one", "two", "three", "four"]
PLACES = ["first", "second", "third"]
SOUNDS = {"knocks": "knock", "barks": "dog", "beeps": "alarm"}
BLIND = [*KINDS[:5], "other_clip"]
"""Kinds of which the text of the answers is to tell nothing."""


def pairs(split, count, seed=3):
    return [synthetic.make(job) for job in synthetic.Jobs(split, count, seed, ["preference"])]


@pytest.fixture(scope="module")
def corpus():
    return {"train": pairs("train", 480), "validation": pairs("validation", 156)}


def of_kind(records, kind):
    return [record for record in records if record.annotation["kind"] == kind]


def question(record):
    """All that can be read of a talk before its answer."""
    contents = (message["content"] for message in record.annotation["messages"])
    return " ".join(
        content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
        for content in contents
    )


def held(clip):
    """The sounds of a clip, by its facts."""
    return clip.get("sounds") or [clip["sound"]]


def test_pairs_are_sound(corpus):
    for records in corpus.values():
        counted = collections.Counter(record.annotation["kind"] for record in records)
        assert list(counted) == KINDS
        assert counted["absent_sound"] == counted["present_sound"] == len(records) // 4
        for record in records:
            note = record.annotation
            check_annotation("preference", note, len(record.audio))
            assert json.loads(json.dumps(note)) == note
            assert places(note["messages"]) == len(record.audio) == len(note["heard"])
            assert ("absent" in note) == (note["kind"] == "absent_sound")
            assert ("present" in note) == (note["kind"] == "present_sound")


CALLED = {"knock": "knock", "dog": "bark", "alarm": "beep"}
"""Sounds as they are counted."""


def denies(answer, name):
    _, _, denied = answer.rstrip(".").partition(", but no ")
    return denied in (name, f"{CALLED.get(name)}s")


def told(answer):
    """The sounds that an answer says are heard."""
    heard = answer.split(", but no ")[0].rstrip(".").replace(",", "").split()
    called = {strokes: name for name, strokes in CALLED.items()}
    return {called.get(w.removesuffix("s"), w) for w in heard} & {*synthetic.sound_tasks.NAMES}


def test_absent_and_present_sounds(corpus):
    """What is asked, and which of the two answers the clips bear out."""
    forms = collections.Counter()
    for record in [one for some in corpus.values() for one in some]:
        note = record.annotation
        if note["kind"] not in KINDS[:2]:
            continue
        names = [name for clip in note["heard"] for name in held(clip)]
        asked = question(record).rstrip("?").split()
        words = {SOUNDS.get(word, word) for word in asked} & {*synthetic.sound_tasks.NAMES}
        (name,) = words
        there = note["kind"] == "present_sound"
        assert (name in names) == there
        denied, affirmed = (note["rejected"], note["chosen"])[:: 1 if there else -1]
        assert denies(denied, name)
        assert not denies(affirmed, name)
        assert told(note["chosen"]) in ({*names}, {name} if there else set())
        assert not told(note["rejected"]) <= {*names}
        (asks,) = note["asked"]
        forms[asks, there] += 1
        if there and asks == "count":
            assert NUMBERS[note["count"]] in affirmed.split()
            assert note["count"] == note["heard"][0]["count"]
        if there and asks == "where":
            assert PLACES[names.index(name)] in affirmed.split()
        if not there:
            assert not {*note["absent"]} & {*names}
            assert {name, *note["absent"]} <= {*note["absent"]}
    assert set(forms) == {(asks, there) for asks in ("is_heard", "count", "where")
                          for there in (True, False)}  # fmt: skip


def test_other_rejected_answers_are_wrong_in_their_way(corpus):
    for record in [one for some in corpus.values() for one in some]:
        note, (heard, *_) = record.annotation, record.annotation["heard"]
        better, worse = note["chosen"].rstrip(".").split(), note["rejected"].rstrip(".").split()
        if note["kind"] == "invented_sound":
            at = note["asked"].index(note["asked"][-1])
            assert told(note["chosen"]) == {heard["sounds"][at]}
            assert not told(note["rejected"]) & {*heard["sounds"]}
            assert better[:2] == worse[:2] == [("First", "Then")[at], "comes"]
        elif note["kind"] == "wrong_count":
            assert better[2] == NUMBERS[heard["count"]] != worse[2]
            assert worse[2] in NUMBERS[1:]
        elif note["kind"] == "invented_word":
            said = heard.get("word", heard.get("transcript"))
            assert " ".join(better).endswith(said)
            assert len(better) == len(worse)
            assert sum(one != other for one, other in zip(better, worse, strict=True)) == 1
        elif note["kind"] == "rambling":
            assert note["rejected"].startswith(f"{note['chosen']} ")


FRAMES = {
    "sound": "It is ",
    "instrument": "It is ",
    "note": "It is the note ",
    "count": "There ",
    "scene": "This is ",
    "voice_sound": "Someone ",
    "emotion": "The emotion is ",
    "speaker": "It is a ",
    "language": "The language is ",
    "word": "The word is ",
    "said": "The speaker says ",
}


def test_answers_to_another_clip_are_to_the_same_question(corpus):
    asked = set()
    for record in of_kind(corpus["train"], "other_clip"):
        note = record.annotation
        assert note["rejected"] != note["chosen"]
        (asks,) = note["asked"]
        if question(record):
            asked.add(asks)
            assert note["chosen"].startswith(FRAMES[asks])
            assert note["rejected"].startswith(FRAMES[asks])
    assert asked == {*FRAMES}


def test_refusals_and_rambling_are_in_conversations_of_all_kinds(corpus):
    for kind in ("refusal", "rambling"):
        forms = collections.Counter(
            (len(note["messages"]) > 1, len(note["heard"]) > 1 and len(note["messages"]) == 1,
             not question(record))
            for record in of_kind(corpus["train"], kind) if (note := record.annotation)
        )  # fmt: skip
        assert {(True, False, False), (False, True, False), (False, False, True),
                (False, False, False)} <= {*forms}  # fmt: skip


@pytest.mark.parametrize("kind", BLIND)
def test_text_does_not_tell_which_answer_is_better(corpus, kind):
    """Of two answers, take that which the other pairs with that question choose more often."""
    among = KINDS[:2] if kind in KINDS[:2] else [kind]
    records = [record for record in corpus["train"] if record.annotation["kind"] in among]
    worth = collections.Counter()
    for record in records:
        for sign, field in ((1, "chosen"), (-1, "rejected")):
            worth[question(record), record.annotation[field]] += sign
    right = 0.0
    for record in records:
        better, worse = (
            worth[question(record), record.annotation[field]] - sign
            for sign, field in ((1, "chosen"), (-1, "rejected"))
        )
        right += 0.5 + 0.5 * (better > worse) - 0.5 * (better < worse)
    assert right < 0.65 * len(records)


def test_validation_has_unseen_sets_of_sounds(corpus):
    sets = {
        split: {
            frozenset(names)
            for record in records
            if len(names := {n for c in record.annotation["heard"]
                             if "sound" in c or ("sounds" in c and "scene" not in c)
                             for n in held(c)}) > 1
        }
        for split, records in corpus.items()
    }  # fmt: skip
    assert len(sets["validation"]) > 20
    assert not sets["train"] & sets["validation"]


def test_same_bytes_in_any_order_and_with_more(corpus):
    jobs = synthetic.Jobs("train", 5000, 3, ["preference"])[:30]
    assert [synthetic.make(job) for job in reversed(jobs)][::-1] == corpus["train"][:30]


def test_right_answers_score_full_and_wrong_ones_nothing(corpus):
    notes = [record.annotation for record in corpus["validation"]]
    for field, hallucinated in (("chosen", 0.0), ("rejected", 1.0)):
        rows = score_by_part("preference", [Answer(note, note[field]) for note in notes])
        value = {row["metric"]: row["value"] for row in rows}
        assert value["accuracy"] == 1 - hallucinated
        assert value["hallucinations"] == value["missed_sounds"] == hallucinated
        assert value["wrong_counts"] == hallucinated


def test_a_corpus_of_pairs_is_built(tmp_path):
    flags = ["--source=synthetic", "--tasks=preference", f"--out={tmp_path / 'pairs'}"]
    sizes = ["--train_examples=10", "--validation_examples=10", "--workers=1"]
    assert build.main([*flags, *sizes]) == 0
    for split in ("train", "validation"):
        assert {row.task for row in Corpus(tmp_path / "pairs").index(split)} == {"preference"}
    assert list(build.pairs_work()["train"].jobs[:1]) == [("train", 0, 0, "preference", 0)]
