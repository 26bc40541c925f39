"""One call between two peers: its bodies, its credit, its end. `link` carries many on a stream.

The rules of this file. A frame is a uint32 length and canonical CBOR `[call id, kind, …]`; who opened the
stream makes the calls, with rising ids. Either side sends bodies while it has credit: a call's receiver holds
at most `WINDOW` bytes unread, and gives credit back as they are read. So a slow reader of one call stops its
own sender and nobody else, and the task that reads the stream never waits. Who sends beyond its credit loses
that call; who sends what is no frame loses the stream. A lost stream fails all its calls at once.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING

import trio

from ...protocol.encoding.codec import MAX_FRAME
from ...protocol.errors import CommonloreError, LocalProtocolError, RemoteProtocolError, Unreachable
from ...protocol.ids import PeerId

if TYPE_CHECKING:
    from .link import Link

MAX_BODY = MAX_FRAME - 128
"""Bytes of one body; the rest of a frame is its envelope."""
FRAME_COST = 64
"""What a frame weighs beside its body, so that empty bodies are not free."""
WINDOW = 2 * MAX_FRAME
"""Bytes of a call that may be on their way or unread. Twice the largest frame: credit returns by halves."""
MAX_REASON = 512


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
