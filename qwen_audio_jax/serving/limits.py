"""How much one request may ask for."""

import dataclasses

MOST_CHOICES = 8
"""Answers to one request (`n`)."""

MOST_STOPS, LONGEST_STOP = 4, 256
"""Stop strings of a request, as many as at OpenAI, and characters of each."""

MOST_MESSAGES = 1000
MOST_CLIPS = 64

DEEPEST = 12
"""JSON arrays and objects in one another; a request needs six."""

MOST_VALUES = 50_000
"""Of a JSON body: beyond it a small body would be much memory."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What the flags of `serve` say.

    Attributes:
        body_bytes: of a request's body.
        body_seconds: until the body is there.
        audio_seconds: of all clips of a request together.
        tokens: of an answer.
        queue: requests that wait for a slot.
        answer_seconds: from a request's arrival to the end of its answer.
    """

    body_bytes: int = 32 << 20
    body_seconds: float = 60.0
    audio_seconds: float = 600.0
    tokens: int = 1024
    queue: int = 64
    answer_seconds: float = 600.0
