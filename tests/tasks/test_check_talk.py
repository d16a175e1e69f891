"""Conversations that are none are refused, by message and mend."""

import pytest

from qwen_audio_jax.tasks import AnnotationError, check_annotation
from qwen_audio_jax.tasks.conversation import check_talk

SYSTEM = {"role": "system", "content": "Be brief."}
AUDIO, TEXT = {"type": "audio"}, {"type": "text", "text": "What is it?"}
ASKED = {"role": "user", "content": [AUDIO, TEXT]}
SAID = {"role": "assistant", "content": "A bell."}
HEARD = {"role": "user", "content": [AUDIO]}
UNLEARNED = SAID | {"loss": False}


@pytest.mark.parametrize(
    ("messages", "clips"),
    [
        ([ASKED, SAID], 1),
        ([SYSTEM, ASKED, UNLEARNED, HEARD, SAID], 2),
        ([SYSTEM | {"content": ""}, {"role": "user", "content": "Hello"}, SAID], 0),
        ([HEARD, SAID | {"content": [{"type": "tags", "text": "<|0.10|>"}]}], 1),
        ([HEARD, SAID | {"loss": False}, ASKED, SAID], 2),
    ],
)
def test_conversations_are_stored_as_they_are(messages, clips):
    assert check_talk(messages, clips) == messages
    annotation = {"messages": messages, "source": "x"}
    assert check_annotation("chat", annotation, clips) == (annotation, ())


def test_a_message_that_is_learned_need_not_say_so():
    assert check_talk([ASKED, SAID | {"loss": True}], 1) == [ASKED, SAID]


@pytest.mark.parametrize(
    ("messages", "clips", "says"),
    [
        ("hello", 0, "must be a list of messages, not 'hello'"),
        ([], 0, "must be a list of messages"),
        (["hello"], 0, "message 1: must be an object {role, content}, not 'hello'"),
        ([ASKED, SAID], 2, "1 place for audio in the messages and 2 clips in the record"),
        ([ASKED, SAID, ASKED, SAID], 1, "2 places for audio in the messages and 1 clip in the"),
        ([ASKED], 1, "message 1: is the last one and the user's"),
        ([SYSTEM], 0, "message 1: is the last one and the system's"),
        ([ASKED, ASKED, SAID], 2, "message 2: is the user's, where one of the assistant is due"),
        ([ASKED, SAID, SAID], 1, "message 3: is the assistant's, where one of the user is due"),
        ([SAID], 0, "message 1: is the assistant's, where one of the system or user is due"),
        ([ASKED, SAID, SYSTEM], 1, "message 3: is the system's"),
        ([SYSTEM, SYSTEM, ASKED, SAID], 1, "message 2: is the system's"),
        ([ASKED, SAID | {"role": "tool"}], 1, "message 2: 'role' must be system, user or assist"),
        ([ASKED, {"role": "assistant"}], 1, "message 2: 'content' must be a text or a list"),
        ([ASKED, SAID | {"content": " \n"}], 1, "message 2: has nothing in it that can be seen"),
        ([ASKED, SAID | {"content": ""}], 1, "message 2: has nothing in it that can be seen"),
        ([{"role": "user", "content": [{"type": "text", "text": " "}]}, SAID], 0, "message 1: has"),
        ([ASKED, SAID | {"content": [AUDIO]}], 2, "message 2: part 1 of 'content': audio can stan"),
        ([SYSTEM | {"content": [AUDIO]}, ASKED, SAID], 2, "message 1: part 1 of 'content': audio"),
        ([{"role": "user", "content": [{"type": "image"}]}, SAID], 0, "message 1: part 1 of 'con"),
        (
            [{"role": "user", "content": ["x"]}, SAID],
            0,
            "message 1: part 1 of 'content' must be",
        ),
        ([{"role": "user", "content": [TEXT | {"id": 1}]}, SAID], 0, "'id' is not read in one of"),
        ([{"role": "user", "content": [AUDIO | {"path": "a"}]}, SAID], 1, "'path' is not read"),
        ([ASKED | {"name": "Ann"}, SAID], 1, "message 1: 'name' is not read"),
        ([ASKED | {"loss": False}, SAID], 1, "message 1: 'loss' is true or false, and stands"),
        ([ASKED, SAID | {"loss": 0}], 1, "message 2: 'loss' is true or false"),
        ([ASKED, UNLEARNED], 1, "has nothing to learn: every message of the assistant has"),
        ([ASKED, SAID] * 501, 501, "has 1,002 messages, and 1,000 are the most"),
    ],
)
def test_what_is_no_conversation_is_one_sentence(messages, clips, says):
    with pytest.raises(AnnotationError) as refusal:
        check_talk(messages, clips)
    assert says in str(refusal.value)
    with pytest.raises(AnnotationError, match="field 'messages': ") as refusal:
        check_annotation("chat", {"messages": messages}, clips)
    assert len(str(refusal.value)) < 250
