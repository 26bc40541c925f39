"""Calls between peers: `/commonlore/rpc/1`, one lasting stream from a caller to a peer, any number of calls
in it.

The rules of this file: whoever opens a call may leave it at any time, and the other side's handler is
cancelled. What a handler raises arrives as the same kind of error: `NotFound`, or `Refused` with its code. A
broken connection fails every call with `Unreachable` at once, and the next call connects anew. Timeouts are
the caller's (`trio.fail_after`). The served side bounds each peer: calls at once, new calls a second, unread
bytes.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from ...protocol.errors import CommonloreError, Refused
from ...protocol.ids import PeerId
from ..bucket import Bucket
from ..keyed_lock import KeyedLock
from .calls import MAX_BODY, Call, EndOfCall
from .host import Host
from .host_stream import Stream
from .link import Link

__all__ = ["MAX_BODY", "PROTOCOL", "Call", "EndOfCall", "Handler", "Rpc"]

log = logging.getLogger(__name__)

PROTOCOL = "/commonlore/rpc/1"
CALLS_PER_PEER = 64
OPENS_PER_S = 500.0
OPEN_BURST = 1_000.0

Handler = Callable[[Call], Awaitable[None]]


class Rpc:
    """The calls of one host, both ways."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._handlers: dict[str, Handler] = {}
        self._links: dict[PeerId, Link] = {}
        self._opening: KeyedLock[PeerId] = KeyedLock()
        self._running: Counter[PeerId] = Counter()
        self._buckets: dict[PeerId, Bucket] = {}
        host.serve(PROTOCOL, self._serve_stream)

    # ---- calling

    @asynccontextmanager
    async def open(self, peer: PeerId, method: str) -> AsyncIterator[Call]:
        """A call to `method` of a peer; leaving the block cancels what is not finished.

        Raises Unreachable.
        """
        call = (await self._link(peer)).open(method)
        try:
            yield call
        finally:
            call.leave()
            call.drop_unread()

    async def call(self, peer: PeerId, method: str, body: bytes) -> bytes:
        """One body there, one body back. Raises Unreachable, NotFound, Refused."""
        async with self.open(peer, method) as call:
            await call.send(body)
            await call.end()
            try:
                return await call.receive()
            except EndOfCall:
                raise Refused("failed", f"peer {peer} answered {method} with nothing") from None

    async def _link(self, peer: PeerId) -> Link:
        link = self._links.get(peer)
        if link is not None and not link.lost:
            return link
        async with self._opening.hold(peer):
            link = self._links.get(peer)
            if link is None or link.lost:
                link = self._links[peer] = Link(await self._host.open_stream(peer, PROTOCOL))
                self._host.start_soon(self._read, link)
        return link

    async def _read(self, link: Link) -> None:
        await link.read()
        if self._links.get(link.stream.peer) is link:
            del self._links[link.stream.peer]

    # ---- being called

    def serve(self, method: str, handler: Handler) -> None:
        """Run `handler(call)` for every call of `method`. Its return ends the call; a CommonloreError it
        raises goes to the caller."""
        self._handlers[method] = handler

    async def _serve_stream(self, stream: Stream) -> None:
        async with trio.open_nursery() as nursery:
            await Link(stream, lambda call: self._accept(call, nursery)).read()
            nursery.cancel_scope.cancel()

    def _accept(self, call: Call, nursery: trio.Nursery) -> None:
        handler = self._handlers.get(call.method)
        if handler is None:
            call.refuse(Refused("unknown_method", f"this peer does not serve {call.method!r}"))
        elif self._running[call.peer] >= CALLS_PER_PEER:
            call.refuse(Refused("busy", f"more than {CALLS_PER_PEER} calls at once; wait for one to end"))
        elif not self._bucket(call.peer).take(trio.current_time()):
            call.refuse(Refused("busy", f"more than {OPENS_PER_S:.0f} calls a second; slow down"))
        else:
            self._running[call.peer] += 1
            nursery.start_soon(self._run, handler, call)

    def _bucket(self, peer: PeerId) -> Bucket:
        if peer not in self._buckets:
            if len(self._buckets) >= 4_096:
                del self._buckets[next(iter(self._buckets))]
            self._buckets[peer] = Bucket(OPENS_PER_S, OPEN_BURST, trio.current_time())
        return self._buckets[peer]

    async def _run(self, handler: Handler, call: Call) -> None:
        try:
            with call.scope:
                await handler(call)
                await call.end()
        except CommonloreError as wrong:
            call.refuse(wrong)
        except Exception:
            log.exception("serving %s to peer %s failed", call.method, call.peer)
            call.refuse(Refused("failed", f"{call.method} failed inside the other peer"))
        finally:
            call.drop_unread()
            self._running[call.peer] -= 1
            if not self._running[call.peer]:
                del self._running[call.peer]
