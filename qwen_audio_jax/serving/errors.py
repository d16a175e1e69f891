"""What a client is told when it gets no answer: OpenAI's form, one sentence."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

_TYPES = {429: "rate_limit_error", 500: "server_error", 503: "server_error"}


@dataclasses.dataclass
class ApiError(Exception):
    """A request that is refused.

    Attributes:
        status: of HTTP.
        message: one sentence that says what is wrong and the mend.
        param: the field of the request that it is about.
        code: OpenAI's word for it, where it has one.
        headers: of the response.
    """

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """The JSON object that OpenAI's clients read."""
        return {
            "error": {
                "message": self.message,
                "type": _TYPES.get(self.status, "invalid_request_error"),
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> JSONResponse:
        """The response to send."""
        return JSONResponse(self.body(), self.status, headers=dict(self.headers))


def wrong(param: str, fault: str, code: str | None = None) -> ApiError:
    """Of an argument: 400, `param: fault`."""
    return ApiError(400, f"{param}: {fault}", param, code)


def busy(what: str) -> ApiError:
    """Of a request that there is no room for now: 429."""
    return ApiError(
        429, f"{what}; try again in some seconds", code="queue_full", headers={"Retry-After": "2"}
    )


def draining() -> ApiError:
    """Of a request to a server that is about to end: 503."""
    return ApiError(
        503,
        "the server is ending and takes no more requests; try again when it is back",
        code="draining",
        headers={"Retry-After": "10"},
    )


def overdue() -> ApiError:
    """Of an answer that took too long: 503."""
    return ApiError(
        503,
        "the answer was not ready within the server's time for one request; ask for fewer tokens "
        "(max_tokens), or try again when it is less busy",
        code="timeout",
        headers={"Retry-After": "10"},
    )
