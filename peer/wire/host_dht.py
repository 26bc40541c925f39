"""Kad-DHT on a host, reduced to who provides what, and to signed records.

One of the files that may import libp2p.

The rules of this file: keys of content are sha2-256 multihashes; records live under `/commonlore/` only, and
only where what they hold is sealed by the peer their key names: `/commonlore/<tag>/<peer id>[/<name>]`. Of
two records the higher `seq` wins. Others accept ten announcements in ten seconds from a peer, so announce
roots, and slowly (`discovery` does).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.kad_dht.provider_store import ProviderStore
from libp2p.peer.id import ID
from libp2p.records.utils import InvalidRecordType
from libp2p.records.validator import NamespacedValidator, Validator
from libp2p.tools.anyio_service import background_trio_service

from ...protocol.encoding.codec import tag_of
from ...protocol.encoding.shapes import Record
from ...protocol.errors import LocalProtocolError, ProtocolError
from ...protocol.gossip.adverts import (
    AdapterRecord,
    Advert,
    DatanetRecord,
    MeasurementRecord,
    PeerAd,
    WorkerAd,
)
from ...protocol.ids import Cid, PeerId, digest_of
from ...protocol.signing.envelope import Sealed, open_sealed
from .heard import name_of
from .host import Host

NAMESPACE = "commonlore"
ADVERTS: tuple[type[Advert], ...] = (WorkerAd, PeerAd, AdapterRecord, DatanetRecord, MeasurementRecord)


def record_key(sealed: Sealed[Advert]) -> str:
    """Where a sealed record belongs."""
    kind: type[Record] = type(sealed.record)
    name = name_of(sealed.record)
    place = f"/{NAMESPACE}/{tag_of(kind)}/{sealed.peer_id}"
    return f"{place}/{name}" if name else place


class SealedRecords(Validator):
    """What the DHT may store here: sealed by whom the key names, the newest of several."""

    def validate(self, key: str, value: bytes) -> None:
        """Raises InvalidRecordType."""
        try:
            sealed = open_sealed(value, ADVERTS)
        except ProtocolError as wrong:
            raise InvalidRecordType(f"not a sealed record: {wrong}") from wrong
        if record_key(sealed) != key:
            raise InvalidRecordType(f"a record of {record_key(sealed)} under {key}")

    def select(self, key: str, values: list[bytes]) -> int:
        """The index of the highest seq; every value was validated."""
        seqs = [open_sealed(value, ADVERTS).record.seq for value in values]
        return seqs.index(max(seqs))


class Dht:
    """See `open_dht`."""

    def __init__(self, host: Host, dht: KadDHT) -> None:
        self._host = host
        self._dht = dht

    async def provide(self, cid: Cid) -> bool:
        """Tell the peers closest to `cid` that this one has it; False when there was nobody to tell."""
        return await self._dht.provider_store.provide(_multihash(cid))

    async def providers(self, cid: Cid, count: int = 20) -> tuple[PeerId, ...]:
        """Who has `cid`, as the network says now; their addresses are known to the host afterwards."""
        store: Any = _Afresh(self._dht.provider_store)
        found = await ProviderStore.find_providers(store, _multihash(cid), count)
        told = self._dht.provider_store.get_providers(_multihash(cid))
        peers: dict[PeerId, None] = {}
        for info in (*found, *told):
            peer = PeerId(info.peer_id.to_base58())
            if peer != self._host.peer_id:
                self._host.learn(peer, map(str, info.addrs))
                peers[peer] = None
        return tuple(peers)[:count]

    async def find(self, peer: PeerId) -> bool:
        """Ask the network where a peer is; whether the host knows an address of it afterwards."""
        info = await self._dht.find_peer(ID.from_base58(peer))
        if info is not None:
            self._host.learn(peer, map(str, info.addrs))
        return bool(self._host.known_addresses(peer))

    async def put(self, sealed: Sealed[Advert]) -> None:
        """Store a record with the peers closest to its key.

        Raises LocalProtocolError when a newer one is known.
        """
        try:
            await self._dht.put_value(record_key(sealed), sealed.raw)
        except (ValueError, InvalidRecordType) as wrong:
            raise LocalProtocolError(f"the DHT does not take {record_key(sealed)}: {wrong}") from wrong

    async def get(self, key: str) -> Sealed[Advert] | None:
        """The newest record under a key that the network has."""
        store, binary = self._dht.value_store, key.encode()
        kept = store.get(binary)
        store.remove(binary)  # libp2p asks nobody when it has some value itself, however old
        value = await self._dht.get_value(key)
        if kept is not None and (value is None or SealedRecords().select(key, [kept.value, value]) == 0):
            store.put_record(binary, kept)
            value = kept.value
        return None if value is None else open_sealed(value, ADVERTS)


class _Afresh:
    """A provider store that remembers nothing: libp2p asks nobody while it remembers some provider, for two
    days."""

    def __init__(self, store: ProviderStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get_providers(self, _key: bytes) -> list[Any]:
        return []

    def add_provider(self, _key: bytes, _provider: Any) -> None:
        """Only what providers told this peer themselves is passed on."""


@asynccontextmanager
async def open_dht(host: Host) -> AsyncIterator[Dht]:
    """The DHT on a host until the block ends; a host that does not listen only asks."""
    dht = KadDHT(
        host.raw,
        DHTMode.SERVER if host.listens else DHTMode.CLIENT,
        validator=NamespacedValidator({NAMESPACE: SealedRecords()}, strict_validation=True),
        validator_changed=True,
        strict_validation=True,
    )
    async with background_trio_service(dht):
        yield Dht(host, dht)


def _multihash(cid: Cid) -> bytes:
    return b"\x12\x20" + digest_of(cid)
