"""What a check still reads of an adapter some of whose rows were taken back: in words what, whose they were,
and the shards that stay."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ...protocol.attribution.differences import OpenedShard
from ...protocol.content.manifests import AdapterManifest
from ...protocol.errors import InvalidShard, NotFound, RemoteProtocolError, Unreachable
from ...protocol.ids import Address, Cid
from ..datanets.shards import PulledDatanet, pull_shard
from .difference_evidence import TakenBack, opened_rows

if TYPE_CHECKING:
    from .evidence import Sources


async def withdrawn_of(sources: Sources, manifest: AdapterManifest) -> str:
    """What was taken back of an adapter's rows, in words; empty where nothing was."""
    found: list[str] = []
    for cid in manifest.datanets:
        version = await sources.catalog.datanet(cid)
        if gone := sources.catalog.withdrawn.intersection(version.shards):
            shards = "1 shard" if len(gone) == 1 else f"{len(gone)} shards"
            found.append(f"{shards} of version {version.version} of Datanet {version.name!r}")
    return f"{' and '.join(found)} taken back by who gave them" if found else ""


async def taken_back(sources: Sources, manifest: AdapterManifest) -> TakenBack:
    """The withdrawn shards that an adapter learnt from, and their rows."""
    opened, shards, rows = (await sources.differences()).opened, set[Cid](), dict[bytes, Address]()
    for cid in manifest.datanets:
        shards |= sources.catalog.withdrawn.intersection((await sources.catalog.datanet(cid)).shards)
    for shard in sorted(shards & opened.keys()):
        with suppress(NotFound, Unreachable, RemoteProtocolError):
            payee, hashes = await opened_rows(sources.content, OpenedShard(shard, opened[shard]))
            rows |= dict.fromkeys(hashes, payee)
    return TakenBack(frozenset(shards), rows)


async def staying_datanets(sources: Sources, manifest: AdapterManifest) -> tuple[PulledDatanet, ...]:
    """The adapter's Datanet versions without the withdrawn shards; none where a shard cannot be had."""
    try:
        return tuple([await _staying(sources, datanet) for datanet in manifest.datanets])
    except (NotFound, Unreachable, InvalidShard):
        return ()


async def _staying(sources: Sources, datanet: Cid) -> PulledDatanet:
    version = await sources.catalog.datanet(datanet)
    shards = [
        await pull_shard(sources.content, sources.domain, cid, version.name)  # type: ignore[arg-type]
        for cid in version.shards
        if cid not in sources.catalog.withdrawn
    ]
    return PulledDatanet(datanet, version, tuple(shards))
