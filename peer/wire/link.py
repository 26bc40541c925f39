"""The stream that carries many calls, and its reader. `rpc` is the door; `calls` has the rules of a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from ...protocol.encoding.codec import MAX_FRAME, FrameReader, decode_value, encode_value, frame
from ...protocol.errors import CommonloreError, NotFound, Refused, RemoteProtocolError, Unreachable
from .calls import MAX_REASON, Call, Kind
from .host_stream import Stream

MAX_HELD = 16 * MAX_FRAME
"""Unread bytes of all calls of one stream."""

T = TypeVar("T")


class Link:
    """A stream with its calls.

    `accept` makes the handler's side of a call, or refuses; None on the calling side.
    """

    def __init__(self, stream: Stream, accept: Callable[[Call], None] | None = None) -> None:
        self.stream = stream
        self._ended = False
        self._accept = accept
        self._calls: dict[int, Call] = {}
        self._last_id = 0
        self._held = 0

    @property
    def lost(self) -> bool:
        """Whether another stream is needed for further calls."""
        return self._ended or self.stream.is_broken

    def open(self, method: str) -> Call:
        """A new call from this side. Raises Unreachable."""
        self._last_id += 1
        self.stream.post(frame(encode_value((self._last_id, Kind.OPEN, method))))
        call = self._calls[self._last_id] = Call(self, self._last_id, method)
        return call

    async def read(self) -> None:
        """The reader: until the stream ends. Whatever ends it, every call has failed afterwards.

        Raises nothing of its own.
        """
        reason = f"peer {self.stream.peer} closed the stream"
        frames = FrameReader()
        try:
            while data := await self.stream.receive_some():
                for body in frames.feed(data):
                    self._take(body)
        except Unreachable as wrong:
            reason = str(wrong)
        except RemoteProtocolError as wrong:
            reason = f"peer {self.stream.peer} broke the rules of {self.stream.protocol}: {wrong}"
        finally:
            self._ended = True
            for call in list(self._calls.values()):
                call.fail(Unreachable(reason))
                call.scope.cancel()
            await self.stream.abort()

    async def send(self, *fields: object) -> None:
        """Send a frame of these fields. Raises Unreachable."""
        await self.stream.send_all(frame(encode_value(fields)))

    def post(self, *fields: object) -> None:
        """Send a small frame without waiting; a lost stream is found by its reader."""
        with suppress(Unreachable):
            self.stream.post(frame(encode_value(fields)))

    def forget(self, call_id: int) -> None:
        """The call takes no more frames."""
        self._calls.pop(call_id, None)

    def hold(self, amount: int) -> None:
        """Count unread bytes."""
        self._held += amount

    def _take(self, body: bytes) -> None:
        fields = decode_value(body)
        if not isinstance(fields, list) or len(fields) < 2:
            raise RemoteProtocolError("a frame that is not [call id, kind, …]")
        call_id, kind = _field(fields, 0, int), _field(fields, 1, int)
        if kind == Kind.OPEN:
            self._opened(call_id, _field(fields, 2, str))
        elif (call := self._calls.get(call_id)) is not None:
            self._tell(call, kind, fields)
        elif not 0 < call_id <= self._last_id:
            raise RemoteProtocolError(f"a frame for call {call_id}, which was never opened")

    def _opened(self, call_id: int, method: str) -> None:
        if self._accept is None or call_id <= self._last_id or len(method) > 64:
            raise RemoteProtocolError(
                "an OPEN from the called side, with an old id, or without a method's name"
            )
        self._last_id = call_id
        call = self._calls[call_id] = Call(self, call_id, method)
        self._accept(call)

    def _tell(self, call: Call, kind: int, fields: Sequence[object]) -> None:
        match kind:
            case Kind.DATA:
                call.arrived(_field(fields, 2, bytes))
                if self._held > MAX_HELD:
                    call.refuse(Refused("busy", "too many unread bytes in all calls together"))
            case Kind.END:
                call.ended()
            case Kind.ERROR:
                retryable = _field(fields, 4, bool)
                call.fail(_error(_field(fields, 2, str), _field(fields, 3, str), retryable))
            case Kind.CANCEL if self._accept is not None:
                call.cancelled()
            case Kind.CREDIT:
                call.credited(max(0, _field(fields, 2, int)))
            case _:
                raise RemoteProtocolError(f"a frame of unknown kind {kind}")


def _field(fields: Sequence[object], index: int, kind: type[T]) -> T:
    value = fields[index] if index < len(fields) else None
    if type(value) is not kind:
        raise RemoteProtocolError(f"field {index} of a frame is not {kind.__name__}")
    return value  # exactly of that type, so that True is no number


def _error(code: str, message: str, retryable: bool) -> CommonloreError:
    text = "".join(letter if letter.isprintable() else " " for letter in message[:MAX_REASON])
    return NotFound(text) if code == NotFound.code else Refused(code[:64], text, retryable=retryable)
