"""`records.list`: what gossip lost, asked for directly, and what a newcomer missed. `network`: whether a peer
is of the same network at all, for what those of another one announce means nothing here.

The rules of this file: a peer asks another for what changed there since it last asked; the other answers with
sealed records, which are judged here as gossip's are. A first answer is complete, later ones are small. One
wrong record ends the exchange: no honest peer passes it on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

from ...protocol.encoding.codec import decode_value, encode_value
from ...protocol.errors import ConfigError, Refused, RemoteProtocolError
from ...protocol.gossip.rules import Verdict
from ...protocol.ids import Address, PeerId, checksummed
from ...protocol.signing.eip712 import Domain
from .gossip import Gossip
from .rpc import Call, EndOfCall, Rpc

log = logging.getLogger(__name__)

METHOD = "records.list"
NETWORK = "network"
BATCH_BYTES = 262_144
MAX_CURSORS = 4_096


class Reconciler:
    """Both sides of `records.list`."""

    def __init__(self, rpc: Rpc, gossip: Gossip, now_ms: Callable[[], int]) -> None:
        self._rpc = rpc
        self._gossip = gossip
        self._now_ms = now_ms
        self._cursors: dict[PeerId, tuple[bytes, int]] = {}
        rpc.serve(METHOD, self._serve)
        rpc.serve(NETWORK, self._serve_network)

    async def check_network(self, peer: PeerId) -> None:
        """Raises ConfigError, saying what to do, where a peer belongs to another network; Unreachable,
        RemoteProtocolError. A peer that does not say is taken as one of ours.
        """
        try:
            theirs = _domain(await self._rpc.call(peer, NETWORK, b""))
        except Refused as silent:
            log.info("peer %s does not say which network it is of: %s", peer, silent)
            return
        if theirs != self._gossip.domain:
            raise ConfigError(_other_network(peer, theirs))

    async def pull(self, peer: PeerId) -> int:
        """Take what a peer knows and this one does not; how many records that was.

        Raises Unreachable, Refused, RemoteProtocolError.
        """
        taken = 0
        async with self._rpc.open(peer, METHOD) as call:
            await call.send(encode_value(self._cursors.get(peer, (b"", 0))))
            await call.end()
            try:
                cursor = _cursor(await call.receive())
            except EndOfCall:
                raise RemoteProtocolError(f"peer {peer} ended {METHOD} without an answer") from None
            async for body in call:
                taken += self._take_all(peer, body)
        self._remember(peer, cursor)
        return taken

    def _take_all(self, peer: PeerId, body: bytes) -> int:
        batch = decode_value(body)
        if not isinstance(batch, list):
            raise RemoteProtocolError(f"peer {peer} sent no list of records")
        taken = 0
        for raw in batch:
            verdict = self._gossip.take(raw) if isinstance(raw, bytes) else Verdict.REJECT
            if verdict is Verdict.REJECT:
                raise RemoteProtocolError(f"peer {peer} passes on a record that is wrong")
            taken += verdict is Verdict.ACCEPT
        return taken

    def _remember(self, peer: PeerId, cursor: tuple[bytes, int]) -> None:
        self._cursors.pop(peer, None)
        self._cursors[peer] = cursor
        if len(self._cursors) > MAX_CURSORS:
            del self._cursors[next(iter(self._cursors))]

    async def _serve_network(self, call: Call) -> None:
        domain = self._gossip.domain
        await call.send(encode_value((domain.chain_id, domain.escrow)))

    async def _serve(self, call: Call) -> None:
        records = self._gossip.records
        instance, since = _cursor(await call.receive())
        if instance != records.instance:
            since = 0
        await call.send(encode_value((records.instance, records.version)))
        for batch in _batches(sealed.raw for sealed in records.since(since, self._now_ms())):
            await call.send(encode_value(batch))


def _cursor(body: bytes) -> tuple[bytes, int]:
    match decode_value(body, 64):
        case [bytes(instance), int(number)] if number >= 0 and not isinstance(number, bool):
            return instance, number
        case _:
            raise RemoteProtocolError(f"not a cursor of {METHOD}")


def _domain(body: bytes) -> Domain:
    match decode_value(body, 64):
        case [int(chain_id), bytes(escrow)] if 0 <= chain_id < 1 << 64 and len(escrow) == 20:
            return Domain(int(chain_id), Address(escrow))
        case _:
            raise RemoteProtocolError("a peer that does not say properly which network it is of")


def _other_network(peer: PeerId, theirs: Domain) -> str:
    if not theirs.chain_id:
        return f"peer {peer} belongs to a network without a chain, not to yours; leave --deployment out"
    named = f"chain id {theirs.chain_id}, escrow {checksummed(theirs.escrow)}"
    return f"peer {peer} belongs to another network ({named}); give its deployment: --deployment FILE"


def _batches(raws: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for raw in raws:
        batch.append(raw)
        size += len(raw)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
