"""One JSON response for every error, and the handlers that make it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ...protocol.errors import CommonloreError, NotFound
from .bodies import Drained
from .errors import Defect, InvalidRequest, NotAllowed, envelope, is_retryable, status_of

log = logging.getLogger(__name__)
RETRY_AFTER_S = 1

_Handler = Callable[[Request, Exception], Awaitable[Response]]


def error_response(error: CommonloreError) -> Response:
    """The response that tells an error. `x-should-retry` is what OpenAI's clients go by."""
    retryable = is_retryable(error)
    headers = {"x-should-retry": str(retryable).lower()}
    if retryable:
        headers["retry-after"] = str(RETRY_AFTER_S)
    status = status_of(error)
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(envelope(error), status, headers)


def make_app(routes: list[Route], guard: Middleware | None = None) -> Starlette:
    """An application of these routes whose every error is an envelope."""
    handlers: Mapping[type[Exception], _Handler] = {
        CommonloreError: _on_error,
        HTTPException: _on_http_exception,
        Exception: _on_defect,
    }
    middleware = [Middleware(Drained)] + ([guard] if guard else [])
    return Starlette(routes=routes, middleware=middleware, exception_handlers=dict(handlers))


async def _on_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, CommonloreError):
        raise error
    return error_response(error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own: no such address, or not by this method."""
    if not isinstance(error, HTTPException):
        raise error
    what = f"{request.method} {request.url.path[:200]}"
    if error.status_code == 404:
        return error_response(NotFound(f"there is nothing at {what}"))
    if error.status_code == 405:
        return error_response(NotAllowed(f"{what} is not allowed; see the API's documentation"))
    return error_response(InvalidRequest(error.detail))


async def _on_defect(request: Request, error: Exception) -> Response:
    return error_response(Defect("an error of this node's own; its log says more"))
