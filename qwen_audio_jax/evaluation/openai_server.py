"""A server of OpenAI's HTTP API, whoever runs it: how it is reached, and when it is tried again."""

import concurrent.futures
import dataclasses
import http.client
import ipaddress
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from qwen_audio_jax.inference.answers import LENGTH, STOP

_TRIES, _PAUSE = 5, 1.0
_HANGS = 2
"""How often a request that takes too long is sent: each takes all of the patience."""
_BUSY = (429, 500, 502, 503, 504)
"""Statuses after which a request is tried again."""

ILL_REPLY = (OSError, http.client.HTTPException, ValueError, LookupError, TypeError)
"""What a request may raise that is not answered as it should be."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An address says where requests go; a redirect would take them, and a key, elsewhere."""

    def redirect_request(self, *given: Any) -> None:
        return None


@dataclasses.dataclass(frozen=True)
class Server:
    """Where requests go.

    Attributes:
        address: as "http://127.0.0.1:8000/v1".
        flag: that names it, for what is told of it.
        key_variable: of the environment, that may hold an API key.
        patience: seconds that a request may take.
    """

    address: str
    flag: str
    key_variable: str
    patience: float

    @property
    def is_loopback(self) -> bool:
        """Whether what is sent there stays on this machine."""
        host = urllib.parse.urlsplit(self.address).hostname or ""
        try:
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def chosen(self, model: str, flag: str) -> tuple[str, str]:
        """A model that is served, the one that is named or the first, and who owns it.

        Args:
            model: its name; "" where none is named.
            flag: that names it.

        Raises:
            ValueError: there is no such server or model; one sentence.
        """
        try:
            urllib.parse.urlsplit(self.address).port  # noqa: B018 - raises where it is no port
            known = self.models()
        except ILL_REPLY as error:
            raise ValueError(
                f"{self.flag}: {self.address} does not list its models ({error}); an address is "
                "such as http://127.0.0.1:8000/v1"
            ) from None
        if model and model not in known:
            raise ValueError(f"{flag}: {model!r} is not served there; there is {', '.join(known)}")
        if not known:
            raise ValueError(f"{self.flag}: {self.address} serves no model")
        model = model or next(iter(known))
        return model, known[model]

    def models(self) -> dict[str, str]:
        """What it serves, by name who owns it. Raises one of ILL_REPLY."""
        found = self._opened(urllib.request.Request(self.address + "/models"))
        listed = json.loads(found)["data"]
        return {str(one["id"]): str(one.get("owned_by", "")) for one in listed}

    def completion(self, body: dict[str, Any]) -> tuple[str, str, int]:
        """(text, "stop" or "length", tokens) of a chat's next message.

        Raises:
            ConnectionError: see `posted`.
            OSError, ValueError, LookupError, TypeError, http.client.HTTPException: it has none.
        """
        found = json.loads(self.posted("/chat/completions", json.dumps(body).encode()))
        choice = found["choices"][0]
        text = choice["message"]["content"] or ""
        if not isinstance(text, str):
            raise ValueError("the message is no text")
        finish = LENGTH if choice.get("finish_reason") == "length" else STOP
        tokens = (found.get("usage") or {}).get("completion_tokens", 0)
        return text, finish, tokens if isinstance(tokens, int) else 0

    def posted(self, path: str, body: bytes, kind: str = "application/json") -> bytes:
        """Sends a request, and again, after longer and longer pauses, where the server is busy.

        Raises:
            ConnectionError: the server does not answer any more; one sentence.
            TimeoutError: it took longer than the patience.
            OSError: it refuses; its status and what it says.
            http.client.HTTPException: what it sends is no HTTP.
        """
        for number in range(_TRIES):
            is_last = number == _TRIES - 1
            request = urllib.request.Request(
                self.address + path, data=body, headers={"Content-Type": kind}
            )
            try:
                return self._opened(request)
            except urllib.error.HTTPError as error:
                if error.code not in _BUSY or is_last:
                    raise OSError(f"status {error.code}: {_message(error)}") from None
            except TimeoutError:
                if number >= _HANGS - 1:
                    raise TimeoutError(f"no answer within {self.patience:g} s") from None
            except (urllib.error.URLError, ConnectionError) as error:
                if is_last:
                    raise ConnectionError(
                        f"{self.flag}: {self.address} does not answer any more ({error}); start "
                        "it, and give the same command again, which goes on"
                    ) from None
            time.sleep(_PAUSE * 2**number)
        raise AssertionError("unreachable")

    def _opened(self, request: urllib.request.Request) -> bytes:
        if key := os.environ.get(self.key_variable):
            request.add_header("Authorization", f"Bearer {key}")
        # A proxy that the environment names is for other machines.
        proxies = [urllib.request.ProxyHandler({})] if self.is_loopback else []
        opener = urllib.request.build_opener(_NoRedirect, *proxies)
        with opener.open(request, timeout=self.patience) as response:
            return response.read()


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"]["message"])
    except (ValueError, LookupError, TypeError, OSError):
        return error.reason


def in_words(error: BaseException) -> str:
    """What is told of a request that failed."""
    return " ".join(str(error).split())[:300] or type(error).__name__


_Asked, _Answer = TypeVar("_Asked"), TypeVar("_Answer")


def each_at_once(
    ask: Callable[[_Asked], _Answer], questions: Sequence[_Asked], most: int
) -> Iterator[_Answer]:
    """What `ask` gives of each question, as soon as it is there, of so many asked at once."""
    pool = concurrent.futures.ThreadPoolExecutor(most, "asking")
    try:
        for done in concurrent.futures.as_completed([pool.submit(ask, one) for one in questions]):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)
