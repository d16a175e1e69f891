"""Preference pairs in every form that they come in, and what each is in our own."""

from talk_samples import DATA_A, HEARD, LEARNED, ONE, A, B, assistant, text, user

ASKED, TWICE = ONE[:1], LEARNED[:-1]
"""One clip, one question; two turns of a clip each, up to the second question."""
BELL, HORN = "A bell.", "A horn."
SAID, UNSAID = assistant(BELL), assistant(HORN)
SWIFT = [user("<audio>What is it?"), SAID]
HUMAN = {"from": "human", "value": "<audio>What is it?"}


def gpt(value):
    return {"from": "gpt", "value": value}


OWN = {"messages": ASKED, "chosen": BELL, "rejected": HORN, "audio": A}

ROWS = {
    "own": [
        (OWN, ASKED, A),
        (OWN | {"chosen": SAID, "rejected": UNSAID, "task": "preference"}, ASKED, A),
        ({"messages": [user("Hello.")], "chosen": BELL, "rejected": HORN}, None, ""),
    ],
    "ms_swift": [
        ({"messages": SWIFT, "audios": [A], "rejected_response": HORN}, ASKED, A),
        ({"messages": SWIFT, "audios": A, "rejected_response": [UNSAID]}, ASKED, A),
        (
            {
                "messages": SWIFT,
                "audios": [A],
                "rejected_messages": [SWIFT[0], UNSAID],
                "rejected_audios": [A],
            },
            ASKED,
            A,
        ),
        ({"messages": SWIFT, "audios": A, "rejected_messages": [SWIFT[0], UNSAID]}, ASKED, A),
        (
            {
                "query": "<audio>What is it?",
                "response": BELL,
                "rejected_response": HORN,
                "audios": [A],
                "rejected_messages": None,
            },
            ASKED,
            A,
        ),
        (
            {
                "system": "Be brief.",
                "conversation": [
                    {"human": "<audio>What is it?", "assistant": BELL, "loss": False},
                    {"human": "<audio>And this?", "assistant": BELL},
                ],
                "audios": [A, B],
                "rejected_response": HORN,
            },
            TWICE,
            A + B,
        ),
        (
            {
                "conversations": [HUMAN, gpt(BELL)],
                "audios": [A],
                "rejected_response": HORN,
            },
            ASKED,
            A,
        ),
    ],
    "llama_factory": [
        (
            {
                "conversations": [HUMAN],
                "chosen": gpt(BELL),
                "rejected": gpt(HORN),
                "audios": [A],
            },
            ASKED,
            A,
        ),
        (
            {
                "conversations": [
                    {"from": "system", "value": "Be brief."},
                    HUMAN,
                    gpt(BELL),
                    {"from": "human", "value": "<audio>And this?"},
                ],
                "chosen": gpt(BELL),
                "rejected": gpt(HORN),
                "audios": [A, B],
                "tools": "",
            },
            TWICE,
            A + B,
        ),
        ({"messages": SWIFT[:1], "chosen": SAID, "rejected": UNSAID, "audios": [A]}, ASKED, A),
        (
            {
                "instruction": "<audio>What is it?",
                "input": "",
                "chosen": BELL,
                "rejected": HORN,
                "audios": [A],
            },
            ASKED,
            A,
        ),
    ],
    "trl": [
        ({"prompt": "Hello.", "chosen": BELL, "rejected": HORN}, [user("Hello.")], ""),
        ({"prompt": "Hello.", "chosen": [SAID], "rejected": [UNSAID]}, [user("Hello.")], ""),
        ({"prompt": [user("1")], "chosen": [SAID], "rejected": [UNSAID]}, [user("1")], ""),
        ({"chosen": [user("1"), SAID], "rejected": [user("1"), UNSAID]}, [user("1")], ""),
        (
            {
                "prompt": [user([{"type": "audio", "path": A}, text("What is it?")])],
                "chosen": [SAID],
                "rejected": [UNSAID],
            },
            ASKED,
            A,
        ),
        (
            {
                "chosen": [user(HEARD, text("What is it?")), SAID],
                "rejected": [user(HEARD, text("What is it?")), UNSAID],
                "audio": A,
            },
            ASKED,
            A,
        ),
        # UltraFeedback says the question, and the better talk, once more.
        (
            {
                "prompt": "Is <audio> a tag?",
                "chosen": [user("Is <audio> a tag?"), SAID],
                "rejected": [user("Is <audio> a tag?"), UNSAID],
                "messages": [user("Is <audio> a tag?"), SAID],
                "score_chosen": 6.0,
            },
            [user("Is <audio> a tag?")],
            "",
        ),
    ],
    "openai": [
        (
            {
                "input": {
                    "messages": [
                        user(
                            [
                                {
                                    "type": "input_audio",
                                    "input_audio": {"data": DATA_A, "format": "flac"},
                                },
                                text("What is it?"),
                            ]
                        )
                    ],
                    "tools": [],
                    "parallel_tool_calls": True,
                },
                "preferred_output": [SAID],
                "non_preferred_output": [UNSAID],
            },
            ASKED,
            A,
        )
    ],
}
"""By whose form: a row, the messages before the answers (None: as they are), its clips' names."""
