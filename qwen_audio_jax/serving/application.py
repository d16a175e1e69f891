"""The paths of the server, as an application of ASGI."""

from collections.abc import Collection

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from qwen_audio_jax.serving import completions, transcriptions
from qwen_audio_jax.serving.errors import ApiError, draining
from qwen_audio_jax.serving.guard import Guard
from qwen_audio_jax.serving.measures import CONTENT_TYPE
from qwen_audio_jax.serving.state import State
from qwen_audio_jax.serving.web_page import web_page

_GONE = 499
"""Nobody hears it: nginx's number for a client that went before its answer."""


def application(state: State, host: str, allowed_hosts: Collection[str] = ()) -> Starlette:
    """Makes the application.

    Args:
        state: models and limits.
        host: the address that it is served at.
        allowed_hosts: further names that it is reached by.
    """
    app = Starlette(
        routes=[
            Route("/", _page, methods=["GET"]),
            Route("/health", _health, methods=["GET"]),
            Route("/metrics", _metrics, methods=["GET"]),
            Route("/v1/models", _models, methods=["GET"]),
            Route("/v1/models/{name}", _model, methods=["GET"]),
            Route("/v1/chat/completions", completions.create, methods=["POST"]),
            Route("/v1/audio/transcriptions", transcriptions.create, methods=["POST"]),
        ],
        middleware=[
            Middleware(Guard, state=state, host=host, allowed_hosts=allowed_hosts),
        ],
        exception_handlers={
            ApiError: _refused,
            HTTPException: _no_such,
            ClientDisconnect: _gone,
            Exception: _failed,
        },
    )
    app.router.redirect_slashes = False
    app.state.serving = state
    return app


async def _page(request: Request) -> Response:
    page = web_page()
    return Response(page.html, media_type="text/html", headers=page.headers)


async def _health(request: Request) -> Response:
    state: State = request.app.state.serving
    if state.draining:
        raise draining()
    return JSONResponse({"status": "ok"})


async def _metrics(request: Request) -> Response:
    state: State = request.app.state.serving
    page = state.measures.page(state.models, state.draining)
    return PlainTextResponse(page, media_type=CONTENT_TYPE)


async def _models(request: Request) -> Response:
    state: State = request.app.state.serving
    return JSONResponse(
        {"object": "list", "data": [one.described(state.limits) for one in state.models]}
    )


async def _model(request: Request) -> Response:
    state: State = request.app.state.serving
    return JSONResponse(state.models.find(request.path_params["name"]).described(state.limits))


async def _refused(request: Request, error: ApiError) -> Response:
    return error.response()


async def _no_such(request: Request, error: HTTPException) -> Response:
    path = request.url.path[:80]
    told = {
        404: f"there is no {path!r} here; docs/chat.md lists what there is",
        405: f"{path!r} is not for {request.method}",
    }
    message = told.get(error.status_code, error.detail)
    return ApiError(error.status_code, message, headers=error.headers or {}).response()


async def _gone(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=_GONE)


async def _failed(request: Request, error: Exception) -> Response:
    # The traceback goes to the server's log.
    return ApiError(500, "the server failed at this request; its log says how").response()
