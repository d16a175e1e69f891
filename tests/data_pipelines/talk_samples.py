"""Talks in every form that they come in, and what each is in our own."""

import base64
import io

import numpy as np
import soundfile

A, B = "a.flac", "b.wav"
HEARD = {"type": "audio"}


def text(words):
    return {"type": "text", "text": words}


def user(*content):
    return {"role": "user", "content": content[0] if content[0] is not HEARD else list(content)}


def assistant(content, **said):
    return {"role": "assistant", "content": content, **said}


SYSTEM = {"role": "system", "content": "Be brief."}
ONE = [user(HEARD, text("What is it?")), assistant("A bell.")]
"""One clip, one question."""
TWO = [
    SYSTEM,
    user(HEARD, text("What is it?")),
    assistant("A bell.", loss=False),
    user(HEARD, text("And this?")),
    assistant("A horn."),
]
"""Two turns of a clip each, the first of them not learned."""
LEARNED = [{k: m[k] for k in ("role", "content")} for m in TWO]
"""The same, both learned."""
BOTH = [user(HEARD, HEARD, text("Which is higher?")), assistant("The second.")]


def tone(pitch, **form):
    out, times = io.BytesIO(), np.arange(3200) / 16000
    soundfile.write(out, 0.1 * np.sin(2 * np.pi * pitch * times), 16000, **form)
    return out.getvalue()


CLIPS = {A: tone(440, format="FLAC"), B: tone(880, format="WAV")}
DATA_A, DATA_B = (base64.b64encode(CLIPS[name]).decode() for name in (A, B))


def parts(*content):
    """As transformers takes them."""
    return [{"role": "user", "content": list(content)}, assistant("A bell.")]


ROWS = {
    "messages": [
        ({"messages": ONE, "audio": A}, ONE, A),
        ({"messages": TWO, "audio": [A, B], "task": "chat"}, TWO, A + B),
        # transformers and the card of Qwen2-Audio
        (parts({"type": "audio", "audio_url": A}, text("What is it?")), ONE, A),
        ({"conversation": parts({"type": "audio", "path": A}, text("What is it?"))}, ONE, A),
        ({"messages": parts({"audio": A}, {"text": "What is it?"})}, ONE, A),
        (
            {"messages": parts({"type": "audio", "audio": A, "text": None}, text("What is it?"))},
            ONE,
            A,
        ),
        # OpenAI, and vLLM
        (
            {
                "messages": [
                    {"role": "developer", "content": "Be brief."},
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "input_audio",
                                "input_audio": {"data": DATA_A, "format": "flac"},
                            },
                            text("What is it?"),
                        ],
                    },
                    assistant("A bell.", weight=0),
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "audio_url",
                                "audio_url": {"url": f"data:audio/wav;base64,{DATA_B}"},
                                "uuid": "b",
                            },
                            text("And this?"),
                        ],
                    },
                    assistant("A horn.", weight=1, refusal=None),
                ],
                "model": "some",
            },
            TWO,
            A + B,
        ),
        # TRL
        ({"messages": [user("What is <audio>?"), assistant("A tag of HTML.")]}, None, ""),
    ],
    "ms_swift": [
        ({"messages": [user("<audio>What is it?"), assistant("A bell.")], "audios": A}, ONE, A),
        (
            {
                "messages": [
                    SYSTEM,
                    user("<audio>What is it?"),
                    assistant("A bell.", loss=False),
                    user("<audio>And this?"),
                    assistant("A horn.", loss_scale=1),
                ],
                "audios": [A, B],
                "channel": "bells",
            },
            TWO,
            A + B,
        ),
        (
            {
                "messages": [
                    user("<audio><audio>Which is higher?"),
                    assistant("The second.", loss_weight=1),
                ],
                "audios": [f"data:audio/flac;base64,{DATA_A}", DATA_B],
            },
            BOTH,
            A + B,
        ),
        ({"messages": parts(HEARD, text("What is it?")), "audios": [A]}, ONE, A),
    ],
    "query_response": [
        (
            {
                "system": "Be brief.",
                "history": [["<audio>What is it?", "A bell."]],
                "query": "<audio>And this?",
                "response": "A horn.",
                "audios": [A, B],
            },
            LEARNED,
            A + B,
        )
    ],
    "human_assistant": [
        (
            {
                "system": "Be brief.",
                "conversation": [
                    {"human": "<audio>What is it?", "assistant": "A bell.", "loss": False},
                    {"human": "<audio>And this?", "assistant": "A horn."},
                ],
                "audios": [A, B],
            },
            TWO,
            A + B,
        )
    ],
    "sharegpt": [
        (
            {
                "conversations": [
                    {"from": "system", "value": "Be brief."},
                    {"from": "human", "value": "<audio>What is it?"},
                    {"from": "gpt", "value": "A bell.", "loss": 0},
                    {"from": "human", "value": "<audio>And this?"},
                    {"from": "gpt", "value": "A horn."},
                ],
                "audios": [A, B],
                "tools": "[]",
            },
            TWO,
            A + B,
        ),
        (
            {
                "conversations": [user("<audio>What is it?"), assistant("A bell.")],
                "audio": A,
                "system": "",
            },
            ONE,
            A,
        ),
    ],
    "alpaca": [
        (
            {
                "instruction": "<audio><audio>Which is higher?",
                "input": "",
                "output": "The second.",
                "audios": [A, B],
            },
            BOTH,
            A + B,
        ),
        (
            {
                "system": "Be brief.",
                "history": [["<audio>What is it?", "A bell."]],
                "instruction": "<audio>And",
                "input": "this?",
                "output": "A horn.",
                "audios": [A, B],
            },
            [*LEARNED[:3], user(HEARD, text("And\nthis?")), LEARNED[4]],
            A + B,
        ),
    ],
    "prompt_completion": [
        ({"prompt": "Hello.", "completion": "Hi."}, [user("Hello."), assistant("Hi.")], ""),
        (
            {"prompt": [user("1"), assistant("2"), user("3")], "completion": [assistant("4")]},
            [user("1"), assistant("2", loss=False), user("3"), assistant("4")],
            "",
        ),
    ],
    "audio_flamingo": [
        (
            {
                "id": "one",
                "sound": A,
                "duration": 0.2,
                "conversations": [
                    {"from": "human", "value": "<sound>\nWhat is it?"},
                    {"from": "gpt", "value": "A bell."},
                ],
            },
            ONE,
            A,
        ),
        (
            {
                "sound": [B, A],
                "conversations": [
                    {"from": "human", "value": "<sound-2>\n<sound-1>\nWhich is higher?"},
                    {"from": "gpt", "value": "The second."},
                ],
            },
            BOTH,
            A + B,
        ),
    ],
    "kimi_audio": [
        (
            {
                "task_type": "understanding",
                "conversation": [
                    {"role": "user", "message_type": "text", "content": "What is it?"},
                    {"role": "user", "message_type": "audio", "content": A},
                    {"role": "assistant", "message_type": "text", "content": "A bell."},
                ],
            },
            ONE,
            A,
        )
    ],
    "salmonn": [
        ({"path": A, "text": "A bell.", "task": "QA", "Q": "What is it?"}, ONE, A),
    ],
    "ltu": [
        (
            {
                "instruction": "What is it?",
                "input": "",
                "output": "A bell.",
                "audio_id": A,
                "dataset": "some",
                "task": "open-ended",
            },
            ONE,
            A,
        )
    ],
    "nemo": [
        (
            {"audio_filepath": A, "duration": 0.2, "context": "What is it?", "text": "A bell."},
            ONE,
            A,
        ),
        ({"audio_filepath": A, "question": "What is it?", "answer": "A bell."}, ONE, A),
    ],
}
"""By form: a row, its messages (None: as they are), the names of its clips."""


def changed(value):
    """The value with one part of it replaced by something of another form, in turn."""
    yield from (None, 7, True, "", "<audio>", [], {}, [None], [[]], {"url": 1}, ["a.wav", "a.wav"])
    if isinstance(value, dict):
        for key in value:
            yield {name: one for name, one in value.items() if name != key}
            yield from ({**value, key: other} for other in changed(value[key]))
    elif isinstance(value, list):
        yield [*value, *value]
        for number, one in enumerate(value):
            yield from ([*value[:number], other, *value[number + 1 :]] for other in changed(one))
