"""Conversations of the synthetic corpus: the task `chat`, of four kinds in turn.

What the assistant answers is what the clips hold, and every truth has one wording for a kind of
question, so an answer is right or wrong as it stands. Beside its messages a talk has the facts of
each of its clips ("heard") and what each answer was asked for ("asked").
"""

from typing import Any

from data_pipelines.sources.synthetic.one_clip_talks import analysed
from data_pipelines.sources.synthetic.several_clip_talks import compared
from data_pipelines.sources.synthetic.several_turn_talks import conversed
from data_pipelines.sources.synthetic.speech_tasks import Made
from data_pipelines.sources.synthetic.talk_clips import Draw, Turn
from data_pipelines.sources.synthetic.voice_talks import asked_aloud

MAKERS = {
    "voice_chat": asked_aloud,
    "audio_analysis": analysed,
    "several_clips": compared,
    "several_turns": conversed,
}
KINDS = tuple(MAKERS)
"""Of talks, in the order of turns."""


def talked(validation: bool, ordinal: int, rng: Draw) -> Made:
    """chat: the kinds in turn."""
    kind = KINDS[ordinal % len(KINDS)]
    turns = MAKERS[kind](validation, ordinal // len(KINDS), rng)
    clips = [heard for turn in turns for heard in turn.clips]
    return tuple(heard.audio for heard in clips), {
        "messages": [message for turn in turns for message in messages_of(turn)],
        "kind": kind,
        "asked": [turn.asks for turn in turns],
        "heard": [heard.facts for heard in clips],
    }


def messages_of(turn: Turn) -> list[dict[str, Any]]:
    """The user's message and the assistant's."""
    parts: list[dict[str, str]] = [{"type": "audio"} for _ in turn.clips]
    if turn.text:
        parts.append({"type": "text", "text": turn.text})
    return [
        {"role": "user", "content": parts},
        {"role": "assistant", "content": turn.answer},
    ]
