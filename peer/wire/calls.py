"""One call, and the stream that carries many of them.

`rpc` is the door; this file is the machinery behind it.

The rules of this file. A frame is a uint32 length and canonical CBOR `[call id, kind, …]`; who opened the
stream makes the calls, with rising ids. Either side sends bodies while it has credit: a call's receiver holds
at most `WINDOW` bytes unread, and gives credit back as they are read. So a slow reader of one call stops its
own sender and nobody else, and the task that reads the stream never waits. Who sends beyond its credit loses
that call; who sends what is no frame loses the stream. A lost stream fails all its calls at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import IntEnum
from typing import TypeVar

import trio

from ...protocol.codec import MAX_FRAME, FrameReader, decode_value, encode_value, frame
from ...protocol.errors import (
    CommonloreError,
    LocalProtocolError,
    NotFound,
    Refused,
    RemoteProtocolError,
    Unreachable,
)
from ...protocol.ids import PeerId
from .host_stream import Stream

MAX_BODY = MAX_FRAME - 128
"""Bytes of one body; the rest of a frame is its envelope."""
FRAME_COST = 64
"""What a frame weighs beside its body, so that empty bodies are not free."""
WINDOW = 2 * MAX_FRAME
"""Bytes of a call that may be on their way or unread. Twice the largest frame: credit returns by halves."""
MAX_HELD = 16 * MAX_FRAME
"""Unread bytes of all calls of one stream."""
MAX_REASON = 512

T = TypeVar("T")


class Kind(IntEnum):
    """What a frame says. OPEN and CANCEL come only from the caller."""

    OPEN = 0  # [id, 0, method]
    DATA = 1  # [id, 1, body]
    END = 2  # [id, 2] no more bodies from here
    ERROR = 3  # [id, 3, code, message, retryable] ends the call both ways
    CANCEL = 4  # [id, 4] ends the call both ways
    CREDIT = 5  # [id, 5, bytes read]


class EndOfCall(trio.EndOfChannel):
    """The other side sends no more bodies in this call."""


class Call:
    """One call. The caller has it from `Rpc.open`, the served side as its handler's argument."""

    def __init__(self, link: Link, call_id: int, method: str) -> None:
        self.peer: PeerId = link.stream.peer
        self.method = method
        self.scope = trio.CancelScope()
        """Cancelled when the caller cancels; the handler runs in it."""
        self._link = link
        self._id = call_id
        self._inbox: deque[bytes] = deque()
        self._unread = 0
        self._read = 0
        self._credit = WINDOW
        self._changed = trio.Event()
        self._failure: CommonloreError | None = None
        self._ended_there = False
        self._ended_here = False

    async def send(self, body: bytes) -> None:
        """Send a body; waits while the other side has too much unread.

        Raises Unreachable, or what the other side refused with.
        """
        cost = len(body) + FRAME_COST
        if len(body) > MAX_BODY:
            raise LocalProtocolError(f"a body of {len(body)} bytes; at most {MAX_BODY} fit: send it in parts")
        while self._failure is None and self._credit < cost:
            await self._changed.wait()
        if self._failure is not None:
            raise self._failure
        self._credit -= cost
        await self._link.send(self._id, Kind.DATA, body)

    async def receive(self) -> bytes:
        """The next body.

        Raises EndOfCall after the last one, Unreachable, or what the other side refused with.
        """
        while not self._inbox:
            if self._failure is not None:
                raise self._failure
            if self._ended_there:
                raise EndOfCall
            await self._changed.wait()
        body = self._inbox.popleft()
        self._give_credit(len(body) + FRAME_COST)
        return body

    def __aiter__(self) -> Call:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self.receive()
        except EndOfCall:
            raise StopAsyncIteration from None

    async def end(self) -> None:
        """Say that no more bodies come from here. The other side may still send."""
        if not self._ended_here and self._failure is None:
            self._ended_here = True
            await self._link.send(self._id, Kind.END)
            self._settle()

    def refuse(self, wrong: CommonloreError) -> None:
        """End the call with an error that the other side raises."""
        if self._failure is None and not (self._ended_here and self._ended_there):
            self._link.post(
                self._id, Kind.ERROR, wrong.code, str(wrong)[:MAX_REASON], getattr(wrong, "retryable", True)
            )
            self.fail(wrong)

    def leave(self) -> None:
        """The caller needs no more of this call: cancel what is left of it."""
        if self._failure is None and not (self._ended_here and self._ended_there):
            self._link.post(self._id, Kind.CANCEL)
        self.fail(LocalProtocolError(f"the call {self.method} is over"))

    # ---- what the stream's reader tells; none of these waits

    def fail(self, wrong: CommonloreError) -> None:
        """The call is over with an error; bodies that came before it can still be read."""
        if self._failure is None:
            self._failure = wrong
        self._link.forget(self._id)
        self._wake()

    def cancelled(self) -> None:
        """The caller left."""
        self.fail(Unreachable(f"peer {self.peer} cancelled {self.method}"))
        self.scope.cancel()

    def arrived(self, body: bytes) -> None:
        """A body came."""
        cost = len(body) + FRAME_COST
        if self._ended_there or self._unread + cost > WINDOW:
            self.refuse(RemoteProtocolError(f"{self.method}: more bodies than were asked for"))
            self.scope.cancel()
            return
        self._inbox.append(body)
        self._unread += cost
        self._link.hold(cost)
        self._wake()

    def ended(self) -> None:
        """The other side sends no more."""
        self._ended_there = True
        self._wake()
        self._settle()

    def credited(self, amount: int) -> None:
        """The other side read `amount` bytes."""
        self._credit = min(self._credit + amount, WINDOW)
        self._wake()

    def drop_unread(self) -> None:
        """Forget bodies nobody will read."""
        self._inbox.clear()
        self._link.hold(-self._unread)
        self._unread = 0

    def _give_credit(self, cost: int) -> None:
        self._unread -= cost
        self._link.hold(-cost)
        self._read += cost
        if self._read >= WINDOW // 2 and self._failure is None and not self._ended_there:
            self._link.post(self._id, Kind.CREDIT, self._read)
            self._read = 0

    def _settle(self) -> None:
        if self._ended_here and self._ended_there:
            self._link.forget(self._id)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


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
