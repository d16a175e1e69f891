"""A request's body: read within the limits, and as JSON."""

import asyncio
import codecs
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request

from qwen_audio_jax.serving.errors import ApiError
from qwen_audio_jax.serving.limits import DEEPEST, MOST_VALUES, Limits

_MOST_DIGITS = 1000


async def chunks(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    """The body as it comes.

    Raises:
        ApiError: it is larger than `limits.body_bytes` (413), which is told before any of it is
            read where the client says its length, or not there after `limits.body_seconds` (408).
        ClientDisconnect: the client has gone.
    """
    told = request.headers.get("content-length", "")
    if told.isdecimal() and len(told) < 20 and int(told) > limits.body_bytes:
        raise _too_large(limits)
    size, end = 0, asyncio.get_running_loop().time() + limits.body_seconds
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout_at(end):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise ApiError(
                408,
                f"the body was not there after {limits.body_seconds:g} s; send it at once",
                headers={"Connection": "close"},
            ) from None
        size += len(chunk)
        if size > limits.body_bytes:
            raise _too_large(limits)
        yield chunk


async def whole(request: Request, limits: Limits) -> bytes:
    """All of the body; see `chunks`."""
    return b"".join([chunk async for chunk in chunks(request, limits)])


def _too_large(limits: Limits) -> ApiError:
    return ApiError(
        413,
        f"the body is larger than {limits.body_bytes / 2**20:g} MiB, the server's limit; send "
        "shorter clips, or compress them as FLAC, Ogg or MP3",
        code="body_too_large",
        # What is left of the body is not read.
        headers={"Connection": "close"},
    )


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body.

    Raises:
        ApiError: it is none, or more than a request needs: names twice, numbers that JSON does not
            have, too deep, too many values.
    """
    # Audio in base64 has none of these signs, so this is of all else.
    if sum(map(body.count, (b",", b"{", b"["))) > MOST_VALUES:
        raise ApiError(400, f"the body has more than {MOST_VALUES:,} values; no request needs them")
    if body.startswith(codecs.BOM_UTF8):
        raise ApiError(400, "the body begins with a byte order mark; send JSON in UTF-8 without it")
    try:
        value = json.loads(
            body.decode("utf-8"),
            parse_constant=_no_constant,
            parse_int=_whole_number,
            object_pairs_hook=_distinct,
        )
    except UnicodeDecodeError as error:
        raise ApiError(400, f"the body is not UTF-8: byte {error.start} is none") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ApiError(400, "the body must be a JSON object, {...}")
    if _depth(value) > DEEPEST:
        raise _too_deep()
    return value


def _too_deep() -> ApiError:
    return ApiError(400, f"the body is nested deeper than {DEEPEST} levels; no request needs that")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _whole_number(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:  # Python would refuse it in words that are for programmers
        raise ValueError(f"a number has {len(digits):,} digits, and no request needs such")
    return int(digits)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has {twice[:40]!r} twice")
    return found


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        level = [
            inner for one in level for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return depth
