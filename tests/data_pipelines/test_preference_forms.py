"""Every form that preference pairs come in gives the record of our own form."""

import json

import pytest
from pair_samples import ASKED, BELL, HORN, HUMAN, OWN, ROWS, SAID, SWIFT, TWICE, UNSAID, gpt
from talk_samples import CLIPS, HEARD, ONE, SYSTEM, A, B, assistant, changed, text, user

from data_pipelines import build
from data_pipelines.records import Corpus
from data_pipelines.sources import conversations
from qwen_audio_jax.tasks import check_annotation

TAGGED = assistant([{"type": "tags", "text": "<|0.10|>"}, text("a bell")])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    for name, clip in CLIPS.items():
        (folder / name).write_bytes(clip)
    return folder


def write(folder, *rows):
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def record_of(folder, row, **how):
    (made,), rejected = conversations.jobs(write(folder, row), **how)
    assert rejected == []
    return conversations.make(made)


CASES = [
    pytest.param(*case, id=f"{form}-{number}")
    for form, cases in ROWS.items()
    for number, case in enumerate(cases)
]


@pytest.mark.parametrize(("row", "messages", "clips"), CASES)
def test_a_form_gives_what_our_own_gives(folder, row, messages, clips):
    made = record_of(folder, row)
    told = {key: made.annotation[key] for key in ("messages", "chosen", "rejected")}
    messages = messages or row["messages"]
    assert (made.task, told) == (
        "preference",
        {"messages": messages, "chosen": BELL, "rejected": HORN},
    )
    names = [name for name in (A, B) if name in clips]
    assert list(made.audio) == [CLIPS[name] for name in names]
    check_annotation("preference", made.annotation, len(names))
    own = {**told, "audio": names}
    assert record_of(folder, own).annotation == told


def test_files_of_pairs_and_talks_with_and_without_clips_are_built(folder, tmp_path):
    rows = [
        {"messages": SWIFT, "audios": [A], "rejected_response": HORN, "source": "mine"},
        {"messages": [user("Hello."), SAID], "rejected_response": HORN},
        {"messages": [user("Hello."), SAID]},
        {"messages": SWIFT, "audios": [A], "rejected_response": BELL},
    ]
    flags = ["--source=conversations", f"--manifest={write(folder, *rows)}", "--workers=1"]
    assert build.main([*flags, f"--out={tmp_path / 'corpus'}"]) == 0
    index = list(Corpus(tmp_path / "corpus").index("train"))
    assert [(row.id, row.task, len(row.samples)) for row in index] == [
        ("a-1", "preference", 1),
        ("talk-2", "preference", 0),
        ("talk-3", "chat", 0),
    ]
    assert index[0].annotation["source"] == "mine"
    (line,) = (tmp_path / "corpus" / "rejected.jsonl").read_text().splitlines()
    assert json.loads(line)["row"] == 4
    assert "is the same as 'chosen' ('A bell.')" in json.loads(line)["reason"]


def test_unplaced_clips_go_first_in_both_talks(folder):
    row = {"messages": [user("What is it?"), SAID], "audios": [A], "rejected_response": HORN}
    assert record_of(folder, row, unplaced_first=True).annotation["messages"] == ASKED


def pair(messages, chosen=BELL, rejected=HORN, **more):
    return {"messages": messages, "chosen": chosen, "rejected": rejected, **more}


def swift(rejected, **more):
    return {"messages": SWIFT, "audios": [A], "rejected_messages": rejected, **more}


HEARD_ANSWER = assistant([HEARD])
REFUSED = {
    "the same after rendering": [
        (OWN | {"rejected": BELL}, "field 'rejected': is the same as 'chosen' ('A bell.')"),
        (OWN | {"rejected": assistant([text("A "), text("bell.")])}, "is the same as 'chosen'"),
        (pair([user("1")], "\u00e9", "e\u0301"), "is the same as 'chosen'"),
    ],
    "no user's turn": [
        ({"chosen": "What? A bell.", "rejected": "What? A horn."}, "answer no user's turn"),
        (pair([SYSTEM]), "message 2: is the assistant's, where one of the user is due"),
        (pair([]), "message 1: is the assistant's, where one of the system or user is due"),
        ({"chosen": [SYSTEM, SAID], "rejected": [SYSTEM, UNSAID]}, "message 2: is the assistant's"),
        (
            {"messages": [SYSTEM, SAID], "rejected_response": HORN},
            "field 'messages': has no user's turn",
        ),
    ],
    "audio of the assistant": [
        (
            OWN | {"rejected": HEARD_ANSWER, "audio": [A, B]},
            "a place for audio stands once in the messages, and the row lists 2 clips",
        ),
        (
            OWN | {"rejected": HEARD_ANSWER | {"content": [{"type": "audio", "audio": B}]}},
            "with 'rejected' as its answer: message 2: the assistant answers in sound",
        ),
        (
            OWN | {"chosen": SAID | {"audio": {"id": "x"}}},
            "with 'chosen' as its answer: message 2: 'audio' beside the content is an answer in",
        ),
    ],
    "another history": [
        (
            swift([user("<audio>What?"), UNSAID]),
            "field 'rejected_messages': its talk differs before its answer, at message 1",
        ),
        (
            swift([*SWIFT, user("And?"), UNSAID]),
            "field 'rejected_messages': its talk differs before its answer, at message 2",
        ),
        (swift([SWIFT[0], UNSAID], rejected_audios=[B]), "field 'rejected_audios': other clips"),
        (
            {"chosen": [*ONE, user("1"), SAID], "rejected": [*ONE, user("2"), SAID], "audio": A},
            "field 'rejected': its talk differs before its answer, at message 3",
        ),
        (
            {"prompt": "2", "chosen": [user("1"), SAID], "rejected": [user("1"), UNSAID]},
            "field 'prompt': differs from the talk in 'chosen'",
        ),
    ],
    "an empty answer": [
        (OWN | {"chosen": " "}, "field 'chosen': must be a text with something in it, not ' '"),
        (OWN | {"rejected": None}, "field 'rejected': must be the assistant's answer, a text or"),
        (
            OWN | {"rejected": assistant("")},
            "with 'rejected' as its answer: message 2: has nothing in it that can be seen",
        ),
        ({"messages": SWIFT, "audios": [A], "rejected_response": []}, "field 'rejected_response'"),
    ],
    "counts and order": [
        (
            {"conversations": [HUMAN], "chosen": gpt(BELL), "rejected": gpt(HORN)},
            "<audio> stands once",
        ),
        (
            {
                "conversations": [{"from": "human", "value": "What is it?"}],
                "chosen": gpt(BELL),
                "rejected": gpt(HORN),
                "audios": [A],
            },
            "with 'chosen' as its answer: <audio> stands 0 times in the messages, and the row "
            "lists 1 clip",
        ),
        (
            swift([SWIFT[0], UNSAID], rejected_audios=[]),
            "with 'rejected_messages' as its answer: <audio> stands once",
        ),
        (pair(ONE, audio=A), "message 3: is the assistant's, where one of the user is due"),
        (
            {"messages": SWIFT, "audios": [A], "rejected_response": [UNSAID, UNSAID]},
            "with 'rejected_response' as its answer: message 3: is the assistant's",
        ),
        (
            OWN | {"chosen": user("?")},
            "field 'chosen': is the user's, and an answer is the assistant's",
        ),
    ],
    "what says two things": [
        ({"messages": SWIFT, "audios": A, "label": True}, "field 'label': says of one answer"),
        ({"conversations": [], "kto_tag": False}, "field 'kto_tag': says of one answer whether"),
        (
            {"prompt": "?", "chosen": BELL, "rejected": HORN, "completion": BELL},
            "field 'completion': is a third answer beside 'chosen' and 'rejected'",
        ),
        (swift([SWIFT[0], UNSAID], rejected_response=HORN), "leave one of them"),
        (
            {"messages": SWIFT, "audios": [A], "rejected_response": HORN, "rejected": BELL},
            "field 'rejected': is a third answer beside the talk's own",
        ),
        (swift([SWIFT[0], UNSAID], chosen=BELL), "field 'chosen': is a third answer beside"),
        ({"messages": SWIFT, "audios": [A], "rejected_audios": [A]}, "stands without"),
        ({"input": "?", "preferred_output": [SAID], "non_preferred_output": [UNSAID]}, "'input'"),
        (OWN | {"chosen": TAGGED}, "an answer of a pair has a part of type tags"),
        (OWN | {"rejected": 7}, "field 'rejected': must be the assistant's answer, a text or a"),
        (OWN | {"images": ["a.png"]}, "field 'images': form messages does not read it"),
        (OWN | {"audio": "gone.wav"}, "gone.wav is not there"),
        (OWN | {"tools": [{"name": "f"}]}, "field 'tools': calls of tools"),
    ],
}


@pytest.mark.parametrize(
    ("row", "says"), [pytest.param(*one, id=why) for why, some in REFUSED.items() for one in some]
)
def test_refused(folder, row, says):
    rows, rejected = conversations.jobs(write(folder, row))
    assert rows == []
    assert rejected[0]["row"] == 1
    assert says in rejected[0]["reason"]
    assert "\n" not in rejected[0]["reason"]


def test_nothing_that_a_row_holds_ends_a_build(folder):
    rows = [other for some in ROWS.values() for row, *_ in some for other in changed(row)]
    for form in ("auto", "ms_swift"):
        usable, rejected = conversations.jobs(write(folder, *rows), form)
        numbers = [row.line for row in usable] + [one["row"] for one in rejected]
        assert sorted(numbers) == [*range(1, len(rows) + 1)]
        assert all(" " in one["reason"] for one in rejected)


def test_history_and_system_message(folder):
    made = record_of(folder, pair(TWICE, audio=[A, B]))
    assert made.annotation["messages"] == TWICE
