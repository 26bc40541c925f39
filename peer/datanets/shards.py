"""Datanets: publishing signed shards, and pulling a Datanet's rows with every signature and hash checked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import trio

from ...protocol.content.manifests import MAX_SHARD_BYTES, DatanetManifest, Row, Shard, ShardHeader
from ...protocol.content.names import is_name
from ...protocol.content.rows import (
    check_shard,
    contributors_root,
    decode_rows,
    encode_rows,
    keeps_order,
    rows_root,
    sign_shard,
)
from ...protocol.encoding.codec import decode, encode
from ...protocol.errors import InvalidShard, LocalProtocolError, NotFound, ProtocolError, Unreachable
from ...protocol.gossip.adverts import DatanetRecord
from ...protocol.ids import CHUNK_SIZE, Address, Cid
from ...protocol.signing.eip712 import Domain
from ...protocol.signing.keys import PeerKey
from ..blobs.content import Content
from ..catalog import Catalog
from ..identity.keystore import Identity

log = logging.getLogger("commonlore.peer.datanets.shards")
ORDER_PATIENCE_S = 5.0
"""How long the version before is waited for, to see that shards kept their order."""
_REMEDY = "train without it, or ask its curator for a version without that shard"


@dataclass(frozen=True, slots=True)
class Contribution:
    """One contributor's rows and what travels with them."""

    identity: Identity
    rows: tuple[Row, ...]
    licence: str
    origin: str
    notice: str = ""


@dataclass(frozen=True, slots=True)
class DatanetPlan:
    """What a Datanet version is for."""

    name: str
    purpose: str
    kind: str
    licence: str


@dataclass(frozen=True, slots=True)
class PulledShard:
    """A shard whose signatures and rows were checked."""

    cid: Cid
    shard: Shard
    rows: tuple[Row, ...]

    @property
    def payee(self) -> Address:
        """Where the contributor's money goes."""
        return self.shard.header.payee


@dataclass(frozen=True, slots=True)
class PulledDatanet:
    """A Datanet version with all its rows on this machine."""

    datanet: Cid
    manifest: DatanetManifest
    shards: tuple[PulledShard, ...]


async def publish_shard(
    content: Content, domain: Domain, datanet: str, contribution: Contribution
) -> tuple[Cid, Shard]:
    """Sign one contributor's rows with both of its keys and keep shard and rows. Raises InvalidShard."""
    identity, rows = contribution.identity, contribution.rows
    header = ShardHeader(
        datanet=datanet,
        contributor=identity.name,
        ed25519_key=identity.peer.public,
        payee=identity.payee.address,
        licence=contribution.licence,
        origin=contribution.origin,
        notice=contribution.notice,
        row_count=len(rows),
        rows_root=rows_root(rows),
        rows=await content.put(encode_rows(rows)),
    )
    shard = sign_shard(domain, header, identity.peer, identity.payee)
    check_shard(domain, shard, rows)
    return await content.put(encode(shard)), shard


async def publish_datanet(
    content: Content,
    curator: PeerKey,
    plan: DatanetPlan,
    shards: Sequence[tuple[Cid, Shard]],
    previous: tuple[Cid, DatanetManifest] | None = None,
    withdrawn: Cid | None = None,
) -> tuple[Cid, DatanetManifest]:
    """Make the next version of a Datanet from shards.

    Raises LocalProtocolError when a shard was made for another.
    """
    strangers = [shard.header.datanet for _, shard in shards if shard.header.datanet != plan.name]
    if strangers:
        raise LocalProtocolError(
            f"a shard for Datanet {strangers[0]!r} cannot join {plan.name!r}; sign it anew"
        )
    manifest = DatanetManifest(
        name=plan.name,
        purpose=plan.purpose,
        kind=plan.kind,
        licence=plan.licence,
        curator=curator.public,
        version=previous[1].version + 1 if previous else 1,
        previous=previous[0] if previous else None,
        shards=tuple(cid for cid, _ in shards),
        contributors_root=contributors_root(shard.header.payee for _, shard in shards),
        withdrawn=withdrawn or (previous[1].withdrawn if previous else None),
    )
    return await content.put(encode(manifest)), manifest


def record_of(datanet: Cid, manifest: DatanetManifest, seq: int, now_ms: int) -> DatanetRecord:
    """What is gossiped of a Datanet version."""
    return DatanetRecord(manifest.name, manifest.version, datanet, seq, now_ms)


async def pull_datanet(content: Content, catalog: Catalog, domain: Domain, datanet: Cid) -> PulledDatanet:
    """Every shard and row of a version, verified.

    Raises NotFound, Unreachable, InvalidShard, ProtocolError. A version with a shard that was withdrawn is
    refused: others may still have its rows, and this machine is not to fetch them again.
    """
    manifest = await catalog.datanet(datanet)
    if not catalog.withdrawn.isdisjoint(manifest.shards):
        raise InvalidShard(
            f"Datanet {manifest.name!r}: version {manifest.version} holds a shard that was withdrawn; "
            "use the version that its curator published without it"
        )
    if not manifest.shards:
        raise InvalidShard(f"Datanet {manifest.name!r}: version {manifest.version} has no rows left")
    await _check_order(catalog, manifest)
    shards = tuple([await pull_shard(content, domain, cid, manifest.name) for cid in manifest.shards])
    if contributors_root(s.payee for s in shards) != manifest.contributors_root:
        raise InvalidShard(f"Datanet {manifest.name!r}: its shards are not by the contributors it commits")
    return PulledDatanet(datanet, manifest, shards)


async def _check_order(catalog: Catalog, manifest: DatanetManifest) -> None:
    """A version lists the shards that it keeps first, in the order they had: who came earlier is the original
    where two are alike. An earlier version that cannot be had leaves this version's own order.

    Raises InvalidShard, ProtocolError.
    """
    if manifest.previous is None:
        return
    earlier: DatanetManifest | None = None
    with trio.move_on_after(ORDER_PATIENCE_S), suppress(NotFound, Unreachable):
        earlier = await catalog.datanet(manifest.previous)
    if earlier is None:
        log.warning("version %d of Datanet %s is not to be had", manifest.version - 1, manifest.name)
    elif not keeps_order(earlier.shards, manifest.shards):
        raise InvalidShard(
            f"Datanet {manifest.name!r}: version {manifest.version} moves shards that version "
            f"{earlier.version} has before or behind others; {_REMEDY}"
        )


async def pull_shard(content: Content, domain: Domain, cid: Cid, datanet: str) -> PulledShard:
    """One shard with its rows.

    Raises InvalidShard, which names Datanet and contributor; NotFound, Unreachable.
    """
    try:
        shard = decode(Shard, await content.get(cid, CHUNK_SIZE))
    except ProtocolError as wrong:
        raise InvalidShard(f"Datanet {datanet!r}: {cid} is no shard: {wrong}; {_REMEDY}") from wrong
    try:
        return PulledShard(cid, shard, await _checked_rows(content, domain, shard, datanet))
    except InvalidShard as wrong:
        raise InvalidShard(f"Datanet {datanet!r}, {wrong}; {_REMEDY}") from None


async def _checked_rows(content: Content, domain: Domain, shard: Shard, datanet: str) -> tuple[Row, ...]:
    """The rows of a shard that is what it says."""
    whose = f"shard of {shard.header.contributor!r}"
    if not is_name(shard.header.contributor):
        raise InvalidShard(f"{whose}: not a contributor's name")
    if shard.header.datanet != datanet:
        raise InvalidShard(f"{whose}: it was signed for Datanet {shard.header.datanet!r}")
    check_shard(domain, shard, None)
    try:
        rows = decode_rows(await content.get(shard.header.rows, MAX_SHARD_BYTES))
    except (InvalidShard, ProtocolError) as wrong:
        raise InvalidShard(f"{whose}: {wrong}") from None
    check_shard(domain, shard, rows)
    return rows
