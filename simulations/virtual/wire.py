"""Hosts and streams in memory, for the real calls of `peer.wire.rpc`: bytes arrive one latency after they
were sent, and a host that dies breaks its streams a while later.

`MemoryHost` and `MemoryStream` stand in for `peer.wire.host.Host` and `peer.wire.host_stream.Stream`: same
calls, same errors.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
from trio.testing import MemoryReceiveStream

from ...protocol.errors import Unreachable
from ...protocol.ids import PeerId
from .kernel import TrioKernel

MAX_READ = 1 << 20
Latency = Callable[[PeerId, PeerId], int]
"""One way between two peers, in microseconds."""


class Wire:
    """Everybody's connections. `lost_us` is how long after a death others notice it."""

    def __init__(self, kernel: TrioKernel, latency_us: Latency, lost_us: int, nursery: trio.Nursery) -> None:
        self.kernel = kernel
        self.latency_us = latency_us
        self.lost_us = lost_us
        self.nursery = nursery
        self.hosts: dict[PeerId, MemoryHost] = {}


class MemoryHost:
    """One peer's end of the wire."""

    def __init__(self, peer_id: PeerId, wire: Wire) -> None:
        self.peer_id = peer_id
        self.addresses: tuple[str, ...] = ()
        self.alive = True
        self._wire = wire
        self._served: dict[str, Callable[[MemoryStream], Awaitable[None]]] = {}
        self._streams: list[MemoryStream] = []
        wire.hosts[peer_id] = self

    def connected(self) -> set[PeerId]:
        """Everybody: nobody has to be found."""
        return set(self._wire.hosts) - {self.peer_id}

    def start_soon(self, task: Callable[..., Awaitable[object]], *arguments: object) -> None:
        """Run a task for as long as the simulation runs."""
        self._wire.nursery.start_soon(task, *arguments)

    def serve(self, protocol: str, handler: Callable[[MemoryStream], Awaitable[None]]) -> None:
        """Hand every stream of this protocol to the handler."""
        self._served[protocol] = handler

    async def open_stream(self, peer: PeerId, protocol: str) -> MemoryStream:
        """A new stream to a peer. Raises Unreachable."""
        other = self._wire.hosts.get(peer)
        if other is None or not other.alive:
            latency_us = self._wire.latency_us(self.peer_id, peer)
            await trio.sleep((latency_us + self._wire.lost_us) / 1e6)
            raise Unreachable(f"peer {peer} does not answer")
        near, far = MemoryStream(self, peer, protocol), MemoryStream(other, self.peer_id, protocol)
        near.join(far, self._wire)
        for stream, host in ((near, self), (far, other)):
            host._streams = [*(each for each in host._streams if not each.is_broken), stream]
        self._wire.nursery.start_soon(other._served[protocol], far)
        return near

    def die(self) -> None:
        """Vanish: nothing is heard from here any more, and the other ends notice it later."""
        self.alive = False
        for stream in self._streams:
            stream.vanish()
        self._streams = []


class MemoryStream:
    """One end of a stream; what is sent is queued without limit."""

    def __init__(self, host: MemoryHost, peer: PeerId, protocol: str) -> None:
        self.peer = peer
        self.protocol = protocol
        self.is_broken = False
        self._host = host
        self._inbox = MemoryReceiveStream()
        self._far: MemoryStream | None = None
        self._wire: Wire

    def join(self, far: MemoryStream, wire: Wire) -> None:
        """Make the two ends of one stream."""
        self._far, far._far, self._wire, far._wire = far, self, wire, wire

    async def send_all(self, data: bytes) -> None:
        """Send. Raises Unreachable when the stream is broken."""
        await trio.lowlevel.checkpoint()
        self.post(data)

    def post(self, data: bytes) -> None:
        """Send without waiting. Raises Unreachable when the stream is broken."""
        if self.is_broken or self._far is None:
            raise self._error()
        self._later(self._far.arrive, data)

    async def receive_some(self) -> bytes:
        """The bytes that have come; empty at the end. Raises Unreachable."""
        try:
            return bytes(await self._inbox.receive_some(MAX_READ))
        except trio.ClosedResourceError:
            raise self._error() from None

    async def aclose(self) -> None:
        """Say that no more comes."""
        if not self.is_broken and self._far is not None:
            self._later(self._far.end)
        await trio.lowlevel.checkpoint()

    async def abort(self) -> None:
        """Break it at both ends."""
        if not self.is_broken and self._far is not None:
            self._later(self._far.break_off)
        self.break_off()
        await trio.lowlevel.checkpoint()

    # ---- what the wire tells

    def arrive(self, data: bytes) -> None:
        """Bytes come in."""
        if not self.is_broken:
            self._inbox.put_data(data)

    def end(self) -> None:
        """The other end sends no more."""
        if not self.is_broken:
            self._inbox.put_eof()

    def break_off(self) -> None:
        """Nothing comes any more, and nothing can be sent."""
        self.is_broken = True
        self._inbox.close()

    def vanish(self) -> None:
        """This end's host died."""
        self.break_off()
        if self._far is not None:
            self._wire.kernel.after(self._wire.lost_us, self._far.break_off)

    def _later(self, act: Callable[..., None], *arguments: object) -> None:
        """One latency from now, if this end still lived then."""
        self._wire.kernel.after(self._wire.latency_us(self._host.peer_id, self.peer), act, *arguments)

    def _error(self) -> Unreachable:
        return Unreachable(f"lost the stream {self.protocol} to peer {self.peer}")
