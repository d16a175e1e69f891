"""What comes before every endpoint: who may ask, from which page, and how many at once."""

import asyncio
import hashlib
import hmac
import ipaddress
import urllib.parse
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qwen_audio_jax.serving.errors import ApiError
from qwen_audio_jax.serving.state import State

OPEN = ("/", "/health")
"""Paths that tell nothing of anyone, and need no API key."""

_KNOWN = (*OPEN, "/metrics", "/v1/models", "/v1/chat/completions", "/v1/audio/transcriptions")


def digest(key: str) -> bytes:
    """Of an API key: of equal length for all, so that comparing tells nothing of it."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Guard:
    """ASGI middleware.

    A page of another site may make a browser send requests to this machine. So where the server is
    reached without leaving it, a request has to name a host that is this one (a name that someone
    has pointed here is not); and one that says which page it comes from has to come from here.
    """

    def __init__(
        self, app: ASGIApp, *, state: State, host: str, allowed_hosts: Collection[str] = ()
    ):
        """Args:
        app: what follows.
        state: of the server.
        host: the address that it listens at.
        allowed_hosts: further names that it is reached by.
        """
        self._app, self._state = app, state
        self._allowed = {name.lower() for name in allowed_hosts}
        self._checks_host = is_loopback(host) or bool(self._allowed)
        self._own = host.lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = path if path in _KNOWN else "other"
                self._state.measures.responded(known, message["status"])
            await send(message)

        loop = asyncio.get_running_loop()
        try:
            headers = Headers(scope=scope)
            self._check_origin(headers)
            scope["state"] = {
                **scope.get("state", {}),
                "until": loop.time() + self._state.limits.answer_seconds,
                "principal": "" if path in OPEN else self._principal(headers),
            }
            if scope["method"] != "POST":
                await self._app(scope, receive, counted)
                return
            with self._state.admitted():
                await self._app(scope, receive, counted)
        except ApiError as error:
            await error.response()(scope, receive, counted)

    def _check_origin(self, headers: Headers) -> None:
        """Raises ApiError: the request was meant for, or comes from, another site."""
        host = headers.get("host", "").lower()
        name = _name(host)
        if self._checks_host and not (
            is_loopback(name) or name == self._own or name in self._allowed
        ):
            raise ApiError(
                403,
                "the request names another host than this server is known by; start it with "
                "--allowed-host for that name",
                code="unknown_host",
            )
        origin = headers.get("origin")
        if origin is None:
            return
        page = urllib.parse.urlsplit(origin.lower()).netloc if origin != "null" else ""
        if not page or (page != host and _name(page) not in self._allowed):
            raise ApiError(
                403,
                "the request comes from a page of another site; a reverse proxy must pass on the "
                "Host header, or the server be started with --allowed-host for its name",
                code="other_origin",
            )

    def _principal(self, headers: Headers) -> str:
        """Whose key a request has; "" where nobody needs one.

        Raises:
            ApiError: it has none that is right.
        """
        if not self._state.keys:
            return ""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        given = digest(key.strip())
        # All of them, so that the time does not tell which.
        right = [hmac.compare_digest(given, one) for one in self._state.keys]
        if scheme.lower() != "bearer" or not any(right):
            raise ApiError(
                401,
                "the API key is missing or wrong; send it as the header Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return given.hex()


def _name(host: str) -> str:
    """A host without its port: `[::1]:8000` is `[::1]`; "" for one that is none."""
    if host.startswith("["):
        name, bracket, _ = host.partition("]")
        return name + bracket if bracket else ""
    return host.partition(":")[0]
