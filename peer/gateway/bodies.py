"""Bodies in and out: a JSON body read within limits, a response that is written while it comes about.

Rules of this file:

- Whoever leaves ends what was computed for them: `while_connected` cancels its block when the client closes.
- hypercorn hands the body on through a short queue and waits where nobody reads it, in the middle of a
  response too; so while the last piece of a response is sent, whatever still comes is read and dropped
  (`Drained`).
- An error before the first byte is a status and an envelope; after it, it is one more line of the stream.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import trio
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...protocol.errors import CommonloreError, DeadlineExceeded
from ..unwrap import single_error
from .errors import BodyTooLarge, UnsupportedMedia, envelope
from .fields import Fields, parse_json

MAX_BODY = 2 * 1024 * 1024
BODY_PATIENCE_S = 60.0
SENT_TOO_MUCH = 8
"""A body this many times too large is read to its end, so that the client hears why it was refused."""


async def read_fields(request: Request, high: int = MAX_BODY, *, require_type: bool = True) -> Fields:
    """The JSON object in a body of at most `high` bytes. Raises InvalidRequest, DeadlineExceeded."""
    declared = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if require_type and declared != "application/json":
        raise UnsupportedMedia(f"the body is {declared or 'of no type'}; send content-type: application/json")
    try:
        with trio.fail_after(BODY_PATIENCE_S):
            data = await _read(request, high)
    except trio.TooSlowError:
        raise DeadlineExceeded(f"the body did not arrive within {BODY_PATIENCE_S:g} s") from None
    return Fields(parse_json(data) if data or require_type else {})


async def _read(request: Request, high: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async with aclosing(request.stream()) as stream:
        async for piece in stream:
            size += len(piece)
            if size <= high:
                pieces.append(piece)
            elif size > high * SENT_TOO_MUCH:
                break
    if size > high:
        raise BodyTooLarge(f"the body has more than {high} bytes; send less")
    return b"".join(pieces)


@asynccontextmanager
async def while_connected(receive: Receive) -> AsyncIterator[None]:
    """The block is cancelled, and left quietly, when the client leaves."""
    with single_error():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, receive, nursery.cancel_scope)
            yield
            nursery.cancel_scope.cancel()


async def _watch(receive: Receive, scope: trio.CancelScope) -> None:
    await _read_on(receive)
    scope.cancel()


async def _read_on(receive: Receive) -> None:
    """Drop what comes, until the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def to_json(value: object) -> bytes:
    """Compact JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def ndjson_line(value: object) -> bytes:
    """One line of application/x-ndjson."""
    return to_json(value) + b"\n"


def sse_event(value: object) -> bytes:
    """One event of text/event-stream; text stands as it is (`[DONE]`)."""
    return b"data: " + (value.encode() if isinstance(value, str) else to_json(value)) + b"\n\n"


class Body:
    """A response's body under way. The status line goes out with the first value."""

    def __init__(self, send: Send, media_type: str, frame: Callable[[object], bytes]) -> None:
        self._send = send
        self._media_type = media_type
        self._frame = frame
        self.started = False

    async def write(self, value: object) -> None:
        """Send one value."""
        await self._start()
        await self._send({"type": "http.response.body", "body": self._frame(value), "more_body": True})

    async def end(self) -> None:
        """Nothing more comes."""
        await self._start()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _start(self) -> None:
        if self.started:
            return
        self.started = True
        headers = Headers({"content-type": self._media_type, "cache-control": "no-store"})
        await self._send({"type": "http.response.start", "status": 200, "headers": headers.raw})


class Streaming:
    """A response whose values `produce` writes; it is cancelled when the client leaves."""

    def __init__(
        self, media_type: str, frame: Callable[[object], bytes], produce: Callable[[Body], Awaitable[None]]
    ) -> None:
        self._media_type = media_type
        self._frame = frame
        self._produce = produce

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write it (ASGI)."""
        body = Body(send, self._media_type, self._frame)
        async with while_connected(receive):
            try:
                await self._produce(body)
            except CommonloreError as error:
                if not body.started:
                    raise
                await body.write(envelope(error))
            await body.end()


def server_sent_events(produce: Callable[[Body], Awaitable[None]]) -> Streaming:
    """https://html.spec.whatwg.org/multipage/server-sent-events.html"""
    return Streaming("text/event-stream; charset=utf-8", sse_event, produce)


def json_lines(produce: Callable[[Body], Awaitable[None]]) -> Streaming:
    """https://github.com/ndjson/ndjson-spec"""
    return Streaming("application/x-ndjson", ndjson_line, produce)


class Drained:
    """Middleware: while a response ends, the rest of the request is read and dropped."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on (ASGI)."""

        async def send_on(message: Message) -> None:
            if message["type"] != "http.response.body" or message.get("more_body", False):
                await send(message)
                return
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_read_on, receive)
                await send(message)
                nursery.cancel_scope.cancel()

        try:
            await self._app(scope, receive, send_on)
        except ClientDisconnect:
            return  # it left before its body was whole: there is nobody to tell
