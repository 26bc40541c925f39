"""One libp2p stream as the rest of the package sees it. This file, `host`, `host_pubsub`, `host_dht` and
`compat` are the only ones that import libp2p.

The rules of this file: whoever waits in `send_all` may be cancelled without harm, because one writer task per
stream does the writing; what is queued meanwhile leaves in one piece. Whoever reads must keep reading:
py-libp2p resets a stream whose reader stalls for 5 s. Every failure is `Unreachable`.
"""

from __future__ import annotations

import trio
from libp2p.abc import INetStream
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.exceptions import IOException
from libp2p.network.stream.exceptions import StreamEOF

from ...protocol.errors import Unreachable
from ...protocol.ids import PeerId
from . import compat

MAX_QUEUED = 1 << 20
"""Bytes that wait in a stream's queue before `send_all` waits too."""
MAX_READ = 1 << 20
CLOSE_LIMIT_S = 2.0

LIBP2P_ERRORS = (BaseLibp2pError, IOException, OSError, trio.BrokenResourceError, trio.ClosedResourceError)
"""What py-libp2p raises for a broken stream or connection."""


def shielded(seconds: float) -> trio.CancelScope:
    """A scope for tidying up: cancellation from outside does not reach into it, but it lasts only so long."""
    return trio.CancelScope(shield=True, deadline=trio.current_time() + seconds)


class Stream:
    """A bidirectional byte stream to `peer`, made by `Host.open_stream` or handed to a `Host.serve`
    handler."""

    def __init__(self, raw: INetStream, peer: PeerId, protocol: str) -> None:
        self.peer = peer
        self.protocol = protocol
        self._raw = raw
        self._queue: list[bytes] = []
        self._queued = 0
        self._broken: str | None = None
        self._finishing = False
        self._has_work = trio.Event()
        self._has_room = trio.Event()
        self._finished = trio.Event()

    @property
    def is_broken(self) -> bool:
        """Whether nothing more can be sent."""
        return self._broken is not None or self._finishing

    async def send_all(self, data: bytes) -> None:
        """Queue all of `data`, waiting only while the queue is full.

        Raises Unreachable when the stream is broken or closed.
        """
        while self._queued >= MAX_QUEUED and self._broken is None:
            await self._has_room.wait()
        self.post(data)

    def post(self, data: bytes) -> None:
        """Queue `data` without waiting: for small answers of a reader, which must not wait. Raises
        Unreachable, also when a peer that reads nothing made the queue four times too long: the stream is
        broken then."""
        if self._broken is None and self._queued > 4 * MAX_QUEUED:
            self._fail("the peer reads nothing")
        if self.is_broken:
            raise self._error()
        self._queue.append(data)
        self._queued += len(data)
        self._has_work.set()

    async def receive_some(self) -> bytes:
        """The bytes that have come, at most 1 MiB; empty at the end. Raises Unreachable.

        A cancelled read breaks the stream.
        """
        if self._broken is not None:
            raise self._error()
        complete = False
        try:
            data = await self._raw.read(MAX_READ)
            complete = True
            return data
        except StreamEOF as end:
            complete = True
            if compat.was_reset(self._raw):
                raise self._fail("reset, or the connection was lost") from end
            return b""
        except LIBP2P_ERRORS as wrong:
            raise self._fail(str(wrong) or "reset by the peer") from wrong
        finally:
            if not complete:
                self._fail("a read was interrupted")

    async def aclose(self) -> None:
        """Send what is queued, then close; gives up after two seconds. Never raises."""
        self._finishing = True
        self._has_work.set()
        with shielded(CLOSE_LIMIT_S) as scope:
            await self._finished.wait()
        if scope.cancelled_caught or self._broken is not None:
            await self.abort()

    async def abort(self) -> None:
        """Reset the stream at once; what is queued is lost. Never raises."""
        self._fail("closed here")
        with shielded(CLOSE_LIMIT_S):
            try:
                await self._raw.reset()
            except LIBP2P_ERRORS:
                return

    async def write_queue(self) -> None:
        """The writer task; the host starts it. Ends when the stream is closed or broken."""
        try:
            while self._broken is None:
                await self._has_work.wait()
                self._has_work = trio.Event()
                if self._queue:
                    await self._write_once()
                elif self._finishing:
                    await self._raw.close()
                    return
        except LIBP2P_ERRORS as wrong:
            self._fail(str(wrong) or "reset by the peer")
        finally:
            self._finished.set()

    async def _write_once(self) -> None:
        data = self._queue[0] if len(self._queue) == 1 else b"".join(self._queue)
        self._queue.clear()
        self._queued = 0
        self._has_room.set()
        self._has_room = trio.Event()
        await self._raw.write(data)
        if self._finishing:
            self._has_work.set()

    def _fail(self, reason: str) -> Unreachable:
        if self._broken is None:
            self._broken = reason
            self._has_room.set()
            self._has_work.set()
        return self._error()

    def _error(self) -> Unreachable:
        reason = self._broken or "closed here"
        return Unreachable(
            f"lost the stream {self.protocol} to peer {self.peer}: {reason}; it reopens with the next call"
        )
