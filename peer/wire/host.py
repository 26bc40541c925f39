"""The libp2p host: one key, Noise only, yamux only, one connection a peer. With the other `host_*` and
`compat` the only files that import libp2p; its exceptions end here.

The rules of this file: every failure to reach somebody is `Unreachable` and names the address or peer, the
reason and the remedy; a value a person typed that cannot be used is `ConfigError`. Handlers run beside the
connection they serve, and whatever they raise ends their stream only. Limits are explicit. A peer is dialled
at the addresses this host was told, one after the other, by one task at a time.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p.abc import IHost, INetStream
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from ...protocol.errors import CommonloreError, ConfigError, Unreachable
from ...protocol.ids import PeerId
from ..keyed_lock import KeyedLock
from ..unwrap import single_leaf
from . import compat
from .addresses import listen_address, parse_address, plain_address, reason_of
from .host_build import HostConfig, build_host
from .host_stream import LIBP2P_ERRORS, Stream, shielded

log = logging.getLogger(__name__)

DIAL_LIMIT_S = 5.0
"""For one address: TCP, Noise and muxer together."""
STREAM_LIMIT_S = 10.0
"""For agreeing on the protocol of a new stream."""
STREAMS_PER_PEER = 8
"""Open inbound streams a peer and protocol."""
KNOWN_PEERS = 4_096
PEERSTORE_TTL_S = 3_600
"""How long the DHT passes on an address that was reached."""
ADDRESSES_PER_PEER = 8

StreamHandler = Callable[[Stream], Awaitable[None]]


class Host:
    """A running host; see `open_host`."""

    def __init__(self, raw: IHost, nursery: trio.Nursery, listen: list[Multiaddr]) -> None:
        self.peer_id = PeerId(raw.get_id().to_base58())
        self.raw = raw
        self.listens = bool(listen)
        self._nursery = nursery
        self._listen = listen
        self._network: Any = raw.get_network()
        self._known: OrderedDict[PeerId, tuple[str, ...]] = OrderedDict()
        self._dialling: KeyedLock[PeerId] = KeyedLock()
        self._inbound: Counter[tuple[PeerId, str]] = Counter()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where others find this host, each with /p2p/…; empty when it does not listen."""
        return tuple(str(address) for address in self.raw.get_addrs())

    def connected(self) -> set[PeerId]:
        """Peers with an open connection."""
        open_to = self._network.connections.items()
        return {PeerId(peer.to_base58()) for peer, found in open_to if any(map(compat.is_alive, found))}

    def start_soon(self, task: Callable[..., Awaitable[object]], *args: Any) -> None:
        """Run a task for as long as the host runs."""
        self._nursery.start_soon(task, *args)

    # ---- reaching others

    def learn(self, peer: PeerId, addresses: Iterable[str], signed: bool = False) -> None:
        """Remember where a peer may be: its own `signed` word goes before what others say.

        Malformed addresses are left out.
        """
        plain = tuple(address for address in map(plain_address, addresses) if address is not None)
        if peer == self.peer_id or not plain:
            return
        old = self._known.get(peer, ())
        both = (*plain, *old) if signed else (*old, *plain)
        self._known[peer] = tuple(dict.fromkeys(both))[:ADDRESSES_PER_PEER]
        self._known.move_to_end(peer)
        while len(self._known) > KNOWN_PEERS:
            self._known.popitem(last=False)

    def known_addresses(self, peer: PeerId) -> tuple[str, ...]:
        """The multiaddrs this host would dial for a peer."""
        return self._known.get(peer, ())

    async def connect(self, address: str) -> PeerId:
        """Connect to a full multiaddr (…/p2p/PEER) and return its peer. Raises ConfigError, Unreachable."""
        peer, plain = parse_address(address)
        if peer == self.peer_id:
            raise ConfigError(f"{address} is this peer itself; name another peer's address")
        await self._dial(peer, (plain,))
        self.learn(peer, (plain,), signed=True)  # it answered there, with its key
        return peer

    async def connect_to(self, peer: PeerId) -> None:
        """Connect to a peer at the addresses that are known. Raises Unreachable."""
        await self._dial(peer, self._known.get(peer, ()))

    async def disconnect(self, peer: PeerId) -> None:
        """Close the connection to a peer, if there is one."""
        await self._network.close_peer(ID.from_base58(peer))

    async def open_stream(self, peer: PeerId, protocol: str) -> Stream:
        """A new stream to a peer, which is dialled when needed. Raises Unreachable."""
        for _ in range(3):
            await self._dial(peer, self._known.get(peer, ()))
            try:
                with trio.fail_after(STREAM_LIMIT_S):
                    raw = await self.raw.new_stream(ID.from_base58(peer), [TProtocol(protocol)])
                return self._wrap(raw, peer, protocol)
            except trio.TooSlowError as wrong:
                reason = f"no answer within {STREAM_LIMIT_S:.0f} s"
                raise Unreachable(f"peer {peer} opens no stream {protocol}: {reason}") from wrong
            except LIBP2P_ERRORS as wrong:
                reason = reason_of(wrong)
                if self._is_connected(peer):
                    break  # else the connection was going down, and is dialled again
        raise Unreachable(f"peer {peer} opens no stream {protocol}: {reason}")

    def _is_connected(self, peer: PeerId) -> bool:
        return any(map(compat.is_alive, self._network.get_connections(ID.from_base58(peer))))

    async def _dial(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        if self._is_connected(peer):
            return
        async with self._dialling.hold(peer):
            if not self._is_connected(peer):
                await self._dial_any(peer, addresses)

    async def _dial_any(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        failures: list[str] = []
        for address in addresses:
            reason = await self._dial_one(peer, address)
            if reason is None:
                return
            failures.append(f"{address}: {reason}")
        if not addresses:
            raise Unreachable(
                f"cannot reach peer {peer}: no address of it is known; connect to a peer that knows it"
            )
        raise Unreachable(
            f"cannot reach peer {peer} at {'; '.join(failures)}; check the address or that it is running"
        )

    async def _dial_one(self, peer: PeerId, address: str) -> str | None:
        """None, or why the peer was not reached there."""
        target = ID.from_base58(peer)
        with trio.move_on_after(DIAL_LIMIT_S):
            try:
                await self._network.dial_addr(Multiaddr(address), target)
            except LIBP2P_ERRORS as wrong:
                return reason_of(wrong)
            self._network.unblock_peer(target)
            self.raw.get_peerstore().add_addrs(target, [Multiaddr(address)], PEERSTORE_TTL_S)
            return None
        return f"no answer within {DIAL_LIMIT_S:.0f} s"

    # ---- being reached

    async def listen(self) -> None:
        """Let others in from now on. Raises ConfigError."""
        if self._listen and not await self._network.listen(*self._listen):
            raise ConfigError(f"cannot listen on {', '.join(map(str, self._listen))}; choose another address")

    async def stop_listening(self) -> None:
        """Let nobody new in. libp2p, cancelled, leaves its sockets open and answering."""
        with shielded(1):
            while self._network.listeners:
                _, listener = self._network.listeners.popitem()
                await listener.close()

    def serve(self, protocol: str, handler: StreamHandler) -> None:
        """Call `handler` for every stream a peer opens with `protocol`; the stream is closed when it returns
        or raises."""

        async def accept(raw: INetStream) -> None:
            peer = PeerId(raw.muxed_conn.peer_id.to_base58())
            key = (peer, protocol)
            if self._inbound[key] >= STREAMS_PER_PEER:
                await raw.reset()
                return
            self._inbound[key] += 1
            try:
                await _run_handler(handler, self._wrap(raw, peer, protocol))
            finally:
                self._inbound[key] -= 1
                if not self._inbound[key]:
                    del self._inbound[key]

        self.raw.set_stream_handler(TProtocol(protocol), accept)

    def _wrap(self, raw: INetStream, peer: PeerId, protocol: str) -> Stream:
        stream = Stream(raw, peer, protocol)
        self._nursery.start_soon(stream.write_queue)
        return stream

    async def sever(self) -> None:
        """Drop every connection at once: closing them in turn takes libp2p a fifth of a second each."""
        connections = [one for found in self._network.connections.values() for one in found]
        with shielded(1):
            async with trio.open_nursery() as nursery:
                for connection in connections:
                    nursery.start_soon(_sever, connection)


@asynccontextmanager
async def open_host(config: HostConfig, listening: bool = True) -> AsyncIterator[Host]:
    """A host until the block ends; unless `listening`, nobody reaches it before `Host.listen`. Raises
    ConfigError where it cannot listen."""
    compat.apply()
    listen = [listen_address(text) for text in config.listen]
    raw = build_host(config, listen)
    with single_leaf():
        async with raw.run([]), trio.open_nursery() as nursery:
            host = Host(raw, nursery, listen)
            try:
                if listening:
                    await host.listen()
                yield host
            finally:
                await host.stop_listening()
                await host.sever()
                nursery.cancel_scope.cancel()


async def _run_handler(handler: StreamHandler, stream: Stream) -> None:
    try:
        await handler(stream)
    except CommonloreError as wrong:
        log.debug("stream %s from %s ended: %s", stream.protocol, stream.peer, wrong)
    except Exception:
        log.exception("the handler of %s failed for peer %s", stream.protocol, stream.peer)
    finally:
        await stream.aclose()


async def _sever(connection: Any) -> None:
    try:
        await connection.muxed_conn.secured_conn.close()
    except LIBP2P_ERRORS as wrong:
        log.debug("a connection was gone before it was closed: %s", wrong)
