"""What no talk is built from: each row is refused by its line, with the reason and the mend."""

import json

import numpy as np
import pytest
import soundfile
import talk_samples

from data_pipelines.records import RejectedRecord
from data_pipelines.sources import conversations

HEARD = {"type": "audio"}


def user(content="<audio>What is it?"):
    return {"role": "user", "content": content}


def answer(content="A bell.", **said):
    return {"role": "assistant", "content": content, **said}


def swift(*messages, audios=("a.wav",), **more):
    return {"messages": list(messages), "audios": list(audios), **more}


def plain(*messages, **more):
    return {"messages": list(messages), **more}


GOOD = swift(user(), answer())
CALL = {"id": "1", "function": {"name": "f", "arguments": "{}"}}


@pytest.fixture
def folder(tmp_path):
    times = np.arange(3200) / 16000
    soundfile.write(tmp_path / "a.wav", 0.1 * np.sin(2764 * times), 16000)
    return tmp_path


def write(folder, *rows):
    path = folder / "talks.jsonl"
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def part(**part):
    return plain(user([part]), answer())


COUNTS = [
    (
        swift(user("What?"), answer()),
        "<audio> stands 0 times in the messages, and the row lists "
        "1 clip; write <audio> where each clip is heard (--unplaced_audio=first puts",
    ),
    (
        swift(user("<audio><audio>?"), answer()),
        "<audio> stands 2 times in the messages, and the "
        "row lists 1 clip; list each clip, or take <audio> without one out",
    ),
    (
        swift(user("<audio>?"), answer(), audios=["a.wav"] * 3),
        "stands once in the messages, and the row lists 3 clips",
    ),
    (swift(user("<audio><audio>?"), answer(), user("?"), tools=""), "2 times"),
    (
        plain(user("<audio>What?"), answer(), audio="a.wav"),
        "a place for audio stands 0 times in "
        'the messages, and the row lists 1 clip; write {"type": "audio"} where each clip is heard; '
        "<audio> is text in this form, and a placeholder in --form=ms_swift",
    ),
    (part(type="audio"), "a place for audio stands once in the messages, and the row lists 0"),
    (
        {
            "sound": ["a.wav"] * 2,
            "conversations": [
                {"from": "human", "value": "<sound-1>?"},
                {"from": "gpt", "value": "-"},
            ],
        },
        "<sound-N> stands once in the messages, and the row lists 2 clips",
    ),
    (
        {
            "sound": ["a.wav"] * 2,
            "conversations": [
                {"from": "human", "value": "<sound-1><sound-3>"},
                {"from": "gpt", "value": "-"},
            ],
        },
        "numbered 1, 3 in the messages, and the row lists 2",
    ),
    (
        {
            "sound": ["a.wav"] * 2,
            "conversations": [
                {"from": "human", "value": "<sound><sound-1>"},
                {"from": "gpt", "value": "-"},
            ],
        },
        "both <sound> and <sound-1>; number all of them or none",
    ),
]

ORDER = [
    (
        plain(answer(), user("?"), answer()),
        "message 1: is the assistant's, where one of the system or user is due",
    ),
    (plain(user("1"), answer(), answer()), "message 3: is the assistant's, where one of the user"),
    (plain(user("1"), user("2"), answer(), answer()), "message 4: is the assistant's"),
    (swift(user(), answer(), answer(), system="Be brief."), "message 3: is the assistant's"),
    (
        plain(user("1"), answer(), {"role": "system", "content": "2"}, answer()),
        "message 3: is the system's",
    ),
    (
        swift({"role": "system", "content": "1"}, user(), answer(), system="2"),
        "message 1: is the system's",
    ),
    (plain(user("1"), answer(), user("2")), "message 3: is the last one and the user's"),
    ({"query": "?", "response": "-", "history": [["1"]]}, "pair 1 of 'history'"),
]

LEARNED = [
    (plain(user("1"), answer(loss=False)), "has nothing to learn"),
    (plain(user("1"), answer("")), "message 2: has nothing in it that can be seen or heard"),
    (
        plain(user("1"), answer(None)),
        "message 2: has nothing in it that can be seen or heard",
    ),
    (
        plain(user("1"), answer(loss_scale=0.5)),
        "message 2: 'loss_scale' must be true or false, or 1 or 0",
    ),
    (plain(user("1"), answer(loss=True, weight=0)), "message 2: 'loss' and 'weight' differ"),
    (plain({**user("1"), "loss": True}, answer()), "message 1: is the user's and is to be learned"),
]

SOUND = [
    (swift(user("?"), answer("<audio>")), "message 2: the assistant answers in sound"),
    (plain(user("?"), answer([HEARD]), audio="a.wav"), "message 2: the assistant answers in sound"),
    (plain(user("?"), answer(None, audio={"id": "x"})), "message 2: "),
    (
        plain(user("?"), answer("-", audio={"id": "x"})),
        "message 2: 'audio' beside the content is an answer in sound",
    ),
    (
        {
            "conversation": [
                {"role": "user", "message_type": "audio", "content": "a.wav"},
                {"role": "assistant", "message_type": "audio-text", "content": ["a.wav", "-"]},
            ]
        },
        "message 2: is an answer in sound (audio-text)",
    ),
    (
        {
            "conversation": [
                {"role": "user", "message_type": "text", "content": "?"},
                {"role": "assistant", "message_type": "audio", "content": "a.wav"},
            ]
        },
        "message 2: the assistant answers in sound",
    ),
]

CALLS = [
    (plain(user("?"), answer(None, tool_calls=[CALL])), "message 2: 'tool_calls': calls of tools"),
    (
        plain(user("?"), {"role": "tool", "content": "1", "tool_call_id": "1"}, answer()),
        "message 2",
    ),
    (
        {
            "conversations": [
                {"from": "human", "value": "?"},
                {"from": "function_call", "value": "{}"},
                {"from": "observation", "value": "{}"},
                {"from": "gpt", "value": "-"},
            ]
        },
        "message 2 is of role 'function_call': calls of tools are not supported; leave",
    ),
    (plain(user(7), answer()), "message 1: its content must be a text or a list of parts"),
    (plain(user("?"), answer(), tools=[{"name": "f"}]), "field 'tools': calls of tools"),
]

UNREAD = [
    (
        {
            "conversation": [
                {"role": "user", "message_type": "text", "content": "?"},
                {"role": "user", "content": "a.wav"},
                {"role": "assistant", "message_type": "text", "content": "-"},
            ]
        },
        "message 2: message_type null is not read; text and audio are",
    ),
    (plain(user(["a.wav"]), answer()), "message 1, part 1: must be an object {type, ...}"),
    (swift(user(), answer(), system="<audio>"), "<audio> stands 2 times in the messages"),
    (
        part(type="image_url", image_url={"url": "a"}),
        "message 1, part 1: type 'image_url' is not "
        "read; parts of type text, audio, audio_url, input_audio, tags are",
    ),
    (part(type="text", text=7), "message 1, part 1: 'text' must be a text"),
    (part(type="text", text="-", caption="-"), "message 1, part 1: 'caption' is not read"),
    (part(type="audio", audio="a.wav", url="a.wav"), "names a clip twice (audio and url)"),
    (part(type="audio_url"), "'audio_url' is missing or empty"),
    (part(type="audio", audio=[0.1, 0.2]), "a clip must be a path, a data: URI or base64, not a"),
    (
        part(type="input_audio", input_audio={"format": "wav"}),
        "'input_audio' must be {data, format}",
    ),
    (
        plain({**user("?"), "name": "Ann"}, answer()),
        "message 1: 'name' is not read, and what it says would be lost",
    ),
    (plain(user("?"), answer(reasoning_content="hm")), "message 2: 'reasoning_content' is not"),
    (
        plain({"role": "narrator", "content": "-"}, answer()),
        "message 1: role 'narrator' is not known; it is one of system, developer, user",
    ),
    (plain({"role": 1, "content": "-"}, answer()), "message 1: role 1 is not known"),
    (
        plain(user("?"), answer(), images=["a.png"]),
        "field 'images': form messages does not read it",
    ),
    (swift(user(), answer(), audio="a.wav"), "fields 'audios' and 'audio': both list clips"),
    (plain(user("?"), answer(), wav="a.wav"), "field 'wav': is not read, and the talk has no clip"),
    (swift(user(), answer(), start=1.5), "field 'start': no part is cut out of the clips"),
    (plain("?"), "field 'messages': message 1 must be an object, not '?'"),
    ({"messages": "?"}, "field 'messages': must be a list of messages, not '?'"),
    ({"path": "a.wav", "text": "-", "task": "asr"}, "field 'Q': missing or empty; SALMONN draws"),
    (
        {"audio_filepath": "a.wav", "text": "-"},
        "field 'context': missing or empty; write the request",
    ),
    (
        {"audio_filepath": "a.wav", "context": "?", "question": "?", "text": "-"},
        "leave one of them",
    ),
]

CLIPS = [
    (
        plain(user([HEARD]), answer(), audio="data:audio/wav;base64,UklGRg==", offset=0.1),
        "field 'offset': no part is cut out of a clip that the row holds in base64",
    ),
    (
        plain(user([{"type": "audio", "path": "a.wav"}]), answer(), offset=0.1),
        "field 'offset': no part is cut out of the clips of such a row",
    ),
    (
        {"instruction": "?", "input": "", "output": "-", "audio_id": ""},
        "field 'audio_id': must be the path of a clip, not ''",
    ),
    (swift(user(), answer(), audios=["gone.wav"]), "gone.wav is not there"),
    (
        swift(user(), answer(), audios=["https://x.org/a.wav"]),
        "https://x.org/a.wav is an address; download it and give its path",
    ),
    (part(type="audio_url", audio_url={"url": "http://x.org/a.wav"}), "is an address; download"),
    (swift(user(), answer(), audios=["file://host/a.wav"]), "is on another machine; give its path"),
    (part(type="input_audio", input_audio={"data": "a.wav", "format": "wav"}), "no valid base64"),
    (part(type="input_audio", input_audio={"data": "data:audio/wav,RIFF"}), "must be in base64"),
    (part(type="input_audio", input_audio={"data": "data:audio/wav;base64,"}), "is empty"),
]

FORMS = [
    (
        {"input": "?", "target": "-"},
        "the row has the keys 'input', 'target': it is of no known form; "
        "the forms are messages, ms_swift, query_response",
    ),
    (
        {"query": "?", "response": "-", "prompt": "?", "completion": "-"},
        "it may be of forms query_response and prompt_completion; say which by --form",
    ),
    ({}, "the row has no key"),
    ('"?"', "must be a JSON object"),
    ('{"messages": [}', "is not valid JSON"),
    (plain(user("?"), answer(), id=[1]), "field 'id': must be a text or a whole number"),
    (plain(user("?"), answer(), language="Klingonese"), "field 'language'"),
]


@pytest.mark.parametrize(
    ("row", "says"),
    [*COUNTS, *ORDER, *LEARNED, *SOUND, *CALLS, *UNREAD, *CLIPS, *FORMS],
)
def test_refused(folder, row, says):
    rows, rejected = conversations.jobs(write(folder, "", row))
    assert rows == []
    (rejection,) = rejected
    assert rejection["row"] == 2
    assert says in rejection["reason"]
    assert "\n" not in rejection["reason"]


def test_one_form_a_file(folder):
    """Rows without clips of a file that has some elsewhere are of its form."""
    text_only = plain(user("Hello."), answer("Hi."))
    other = {"query": "?", "response": "-"}
    rows, rejected = conversations.jobs(write(folder, text_only, GOOD, other, {"x": 1}))
    assert [row.id for row in rows] == ["talk-1", "a-2"]
    assert "it is of form query_response, and the file of form ms_swift" in rejected[0]["reason"]
    assert "it is of no known form" in rejected[1]["reason"]
    html = plain(user("What is <audio>?"), answer("A tag."))
    rows, rejected = conversations.jobs(write(folder, html, GOOD))
    assert [row.line for row in rows] == [2]
    assert "<audio> stands once in the messages, and the row lists 0 clips" in rejected[0]["reason"]


def test_a_named_form_is_the_one_that_is_read(folder):
    row = plain(user(), answer(), audio="a.wav")
    (made,), _ = conversations.jobs(write(folder, row), "ms_swift")
    assert made.annotation["messages"][0]["content"][0] == HEARD
    both = {"instruction": "?", "output": "-", "audio_id": "a.wav"}
    (rejection,) = conversations.jobs(write(folder, both), "alpaca")[1]
    assert "field 'audio_id': form alpaca does not read it" in rejection["reason"]
    for form in conversations.FORMS:
        rows, rejected = conversations.jobs(write(folder, {"x": 1}, [], {"x": None}), form)
        assert not rows
        assert all("field '" in rejection["reason"] for rejection in rejected)


def test_ids_differ(folder):
    rows, rejected = conversations.jobs(write(folder, {**GOOD, "id": 1}, GOOD, {**GOOD, "id": "1"}))
    assert [row.id for row in rows] == ["1", "a-2"]
    says = "field 'id': '1' is row 1's already; ids must differ, so leave it out, or"
    assert [one["row"] for one in rejected] == [3]
    assert says in rejected[0]["reason"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("gone.jsonl", None, "no such file"),
        ("empty.jsonl", "\n\n", "is empty"),
        ("empty.json", "", "is empty"),
        ("none.json", "[]", "is empty"),
        ("broken.json", '[{"a": 1},', "broken.json: is not valid JSON"),
        ("twice.json", '[{"a": 1, "a": 2}]', "field 'a' is there twice"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(RejectedRecord, match=says):
        conversations.jobs(tmp_path / name)


@pytest.mark.parametrize("form", conversations.FORMS)
def test_nothing_that_a_row_holds_ends_a_build(folder, form):
    row = talk_samples.ROWS[form][-1][0]
    rows = list(talk_samples.changed(row))
    for told in (form, "auto"):
        usable, rejected = conversations.jobs(write(folder, *map(json.dumps, rows)), told)
        numbers = [row.line for row in usable] + [one["row"] for one in rejected]
        assert sorted(numbers) == [*range(1, len(rows) + 1)]
        assert all(" " in one["reason"] for one in rejected)
