"""The arguments of POST /v1/chat/completions."""

import dataclasses
import secrets
from typing import Any

from qwen_audio_jax.inference.sampling import Sampling
from qwen_audio_jax.rendering.chat import Message
from qwen_audio_jax.serving.arguments import Arguments, as_text, shown
from qwen_audio_jax.serving.clips import Encoded
from qwen_audio_jax.serving.errors import wrong
from qwen_audio_jax.serving.limits import LONGEST_STOP, MOST_CHOICES, MOST_STOPS, Limits
from qwen_audio_jax.serving.messages import read_messages

HOTTEST = 2.0
SEEDS = 1 << 31
"""Of the engine's draws; a seed of OpenAI's 64 bits counts modulo them."""

_IGNORED = ("metadata", "safety_identifier", "service_tier", "store", "user")
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "frequency_penalty": (0, 0.0),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "moderation": (),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "presence_penalty": (0, 0.0),
    "prompt_cache_options": (),
    "prompt_cache_retention": ("in_memory",),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
"""OpenAI's arguments that do nothing here: only what asks for nothing is taken."""


@dataclasses.dataclass(frozen=True)
class ChatArguments:
    """What is asked.

    Attributes:
        model: its name; "" if none is given.
        messages: the conversation.
        clips: its clips in order.
        sampling: how tokens are chosen.
        seed: of the first answer; the next have the numbers after it.
        max_tokens: of each answer; None for as many as there is room for.
        choices: how many answers (`n`).
        stops: strings that end an answer, and are not part of it.
        stream: whether it comes piece by piece.
        include_usage: whether a stream ends with the usage.
        cache_key: names a talk whose history may be kept for its next turn (`prompt_cache_key`).
    """

    model: str
    messages: list[Message]
    clips: list[Encoded]
    sampling: Sampling
    seed: int
    max_tokens: int | None
    choices: int
    stops: tuple[str, ...]
    stream: bool
    include_usage: bool
    cache_key: str


def read(values: dict[str, Any], limits: Limits) -> ChatArguments:
    """Reads a request's object.

    Raises:
        ApiError: an argument is unknown, of another type, out of its range, or does nothing here.
    """
    fields = Arguments(values)
    fields.ignore(_IGNORED)
    fields.refuse(_NEUTRAL)
    stream = fields.flag("stream")
    messages, clips = read_messages(fields.need("messages", "the conversation"))
    seed = fields.whole("seed", None, -(1 << 63), (1 << 63) - 1)
    arguments = ChatArguments(
        model=fields.text("model"),
        messages=messages,
        clips=clips,
        sampling=Sampling(
            temperature=fields.number("temperature", 0.0, 0.0, HOTTEST),
            top_k=fields.whole("top_k", 0, 0, 1 << 20),
            top_p=fields.number("top_p", 1.0, 0.0, 1.0),
            repetition_penalty=fields.number("repetition_penalty", 1.0, 0.1, 10.0),
        ),
        seed=secrets.randbelow(SEEDS) if seed is None else seed % SEEDS,
        max_tokens=_max_tokens(fields, limits),
        choices=fields.whole("n", 1, 1, MOST_CHOICES),
        stops=_stops(fields.take("stop")),
        stream=stream,
        include_usage=_include_usage(fields.take("stream_options"), stream),
        cache_key=_short(fields.text("prompt_cache_key"), "prompt_cache_key"),
    )
    fields.finish()
    return arguments


def _max_tokens(fields: Arguments, limits: Limits) -> int | None:
    names = ("max_completion_tokens", "max_tokens")
    new, old = (fields.whole(name, None, 1, limits.tokens) for name in names)
    if new is not None and old is not None and new != old:
        raise wrong("max_tokens", f"is {old}, and max_completion_tokens {new}; send one of them")
    return old if new is None else new


def _stops(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list):
        raise wrong("stop", f"must be a text or a list of texts, not {shown(value)}")
    if len(given) > MOST_STOPS:
        raise wrong("stop", f"has {len(given)} texts, and {MOST_STOPS} are the most")
    for number, one in enumerate(given):
        where = "stop" if given is not value else f"stop[{number}]"
        if not 0 < len(as_text(one, where)) <= LONGEST_STOP:
            raise wrong(where, f"must have 1 to {LONGEST_STOP} characters, not {len(one):,}")
    return tuple(given)


def _include_usage(value: Any, stream: bool) -> bool:
    if value is None:
        return False
    if not stream:
        raise wrong("stream_options", "is of streams; leave it out, or send stream: true")
    fields = Arguments(value, "stream_options")
    fields.refuse({"include_obfuscation": (False,)})
    wanted = fields.flag("include_usage")
    fields.finish()
    return wanted


def _short(text: str, where: str) -> str:
    if len(text) > LONGEST_STOP:
        raise wrong(where, f"has {len(text):,} characters, and {LONGEST_STOP} are the most")
    return text
