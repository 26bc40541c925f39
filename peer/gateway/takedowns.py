"""What people are told of withdrawals: who took back what, which adapters learnt from it, what was taken out
of their indexes, and as what they were trained again.

Rules of this file: told is what this node has heard and can read now; what cannot be read is left out. That
an adapter learnt from withdrawn rows is told where its own manifest says so: strangers announce differences,
and adapters that say to take the place of others.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import trio

from ...protocol.attribution.differences import MAX_DIFFERENCE_BYTES, IndexDifference, open_difference
from ...protocol.content.manifests import AdapterManifest, DatanetManifest, Shard, ShardHeader
from ...protocol.content.retraining import is_without
from ...protocol.content.withdrawals import (
    MAX_LIST_BYTES,
    Withdrawal,
    WithdrawalList,
    check_withdrawal,
    decode_withdrawals,
)
from ...protocol.encoding.codec import decode
from ...protocol.errors import CommonloreError, NotFound
from ...protocol.ids import CHUNK_SIZE, Cid
from ...protocol.signing.envelope import Sealed
from ..datanets.rows_taken import rows_taken
from .catalog_view import CatalogView
from .node import ContentView
from .views import plain

log = logging.getLogger("commonlore.peer.gateway.takedowns")
PATIENCE_S = 10.0
"""For all that must be pulled; what has not come by then is not told."""


class Takedowns:
    """Withdrawals as this node knows them."""

    def __init__(self, catalog: CatalogView, content: ContentView, now_ms: int) -> None:
        self._catalog = catalog
        self._content = content
        self._now_ms = now_ms
        self._until: float | None = None
        self._manifests: dict[Cid, AdapterManifest | None] = {}

    async def of_datanet(self, name: str) -> dict[str, Any]:
        """One Datanet: its latest version, what was withdrawn of it, and what that did to adapters. Raises
        NotFound, Unreachable, ProtocolError."""
        record = self._catalog.datanet_record(name)
        manifest = await self._catalog.datanet(record.datanet)
        headers = [await self._header(shard) for shard in manifest.shards]
        listed = await self._listed(manifest)
        withdrawn = [await self._withdrawn(cid, each) for cid, each in listed.withdrawals.items()]
        return {
            **plain(record),
            "rows": sum(header.row_count for header in headers),
            "contributors": sorted({header.contributor for header in headers}),
            "licence": manifest.licence,
            "purpose": manifest.purpose,
            "withdrawn": [each for each in withdrawn if each],
            "learnt_from_it": await self._learnt(listed),
        }

    async def of_adapter(self, adapter: Cid, manifest: AdapterManifest) -> dict[str, Any]:
        """`withdrawn` and `retrained`: in words, what was taken back of what an adapter learnt from, and
        which others it takes the place of; None where there is nothing to tell."""
        gone = sorted(await self._gone(manifest))
        withdrawn = None
        if gone:
            withdrawn = f"it learnt from {await self._words(gone)}; refused since{await self._again(adapter)}"
        return {"withdrawn": withdrawn, "retrained": await self._retrained(manifest)}

    async def _again(self, adapter: Cid) -> str:
        again = [f"{each['alias']} ({each['adapter']})" for each in await self._retrained_as(adapter)]
        return f"; retrained without as {', '.join(again)}" if again else "; not trained again yet"

    async def _retrained(self, manifest: AdapterManifest) -> str | None:
        if manifest.retrained is None:
            return None
        versions = await self._versions(manifest)
        learnt = [shard for version in versions for shard in version.shards]
        kept = "" if is_without(manifest.retrained, learnt) else " (NOT SO: its Datanets hold them)"
        words = await self._words(manifest.retrained.shards)
        return f"without {words}, in place of {', '.join(manifest.retrained.adapters)}{kept}"

    async def _words(self, shards: Iterable[Cid]) -> str:
        """Withdrawn shards, whose they were, and since when."""
        said: list[str] = []
        for shard in shards:
            try:
                header = await self._header(shard)
                sealed = await self._withdrawal(header.datanet, shard)
            except CommonloreError:
                said.append(f"shard {shard}")
                continue
            when = f" on {_day(sealed.record.issued_ms)}" if sealed is not None else ""
            said.append(
                f"{header.row_count} rows of {header.contributor} in Datanet {header.datanet} (shard {shard}"
                f", taken back{when})"
            )
        return " and ".join(said)

    async def _withdrawal(self, name: str, shard: Cid) -> Sealed[Withdrawal] | None:
        manifest = await self._catalog.datanet(self._catalog.datanet_record(name).datanet)
        return (await self._listed(manifest)).withdrawals.get(shard)

    async def _learnt(self, listed: WithdrawalList) -> list[dict[str, Any]]:
        """The adapters that learnt from withdrawn shards: those announced, and those of whose indexes rows
        were taken."""
        found: dict[Cid, dict[str, Any]] = {}
        for record in self._catalog.adapters():
            if await self._had_learnt(record.adapter, listed):
                found[record.adapter] = {"adapter": record.adapter, "alias": record.alias}
            manifest = await self._manifest(record.adapter)
            for old in manifest.retrained.adapters if manifest and manifest.retrained else ():
                if old not in found and await self._had_learnt(old, listed):
                    found[old] = {"adapter": old, "alias": None}
        for cid in listed.differences:
            sealed = await self._difference(cid)
            if sealed is None or not await self._had_learnt(sealed.record.adapter, listed):
                continue
            adapter = sealed.record.adapter
            known = found.setdefault(adapter, {"adapter": adapter, "alias": None})
            known |= {"index": sealed.record.index, "difference": cid, "sealed_by": sealed.peer_id}
            known["rows_taken"] = [plain(each) for each in await rows_taken(sealed.record, self._header)]
        return [{**each, "retrained_as": await self._retrained_as(cid)} for cid, each in found.items()]

    async def _had_learnt(self, adapter: Cid, listed: WithdrawalList) -> bool:
        """Whether an adapter learnt from one of these shards, by its own manifest."""
        manifest = await self._manifest(adapter)
        return manifest is not None and not (await self._gone(manifest)).isdisjoint(listed.withdrawals)

    async def _retrained_as(self, adapter: Cid) -> list[dict[str, Any]]:
        """The announced adapters of the same author that were trained again in the place of this one."""
        old, found = await self._manifest(adapter), list[dict[str, Any]]()
        for record in self._catalog.adapters():
            manifest = await self._manifest(record.adapter)
            if manifest is None or manifest.retrained is None or adapter not in manifest.retrained.adapters:
                continue
            if old is None or old.author == manifest.author:
                found.append({"alias": record.alias, "adapter": record.adapter})
        return found

    async def _gone(self, manifest: AdapterManifest) -> set[Cid]:
        versions = await self._versions(manifest)
        return {shard for each in versions for shard in each.shards if shard in self._catalog.withdrawn}

    async def _versions(self, manifest: AdapterManifest) -> list[DatanetManifest]:
        found: list[DatanetManifest] = []
        for datanet in manifest.datanets:
            try:
                with self._patience(datanet):
                    found.append(await self._catalog.datanet(datanet))
            except CommonloreError as unknown:
                log.info("Datanet version %s cannot be read: %s", datanet, unknown)
        return found

    async def _manifest(self, adapter: Cid) -> AdapterManifest | None:
        """None where it does not come soon."""
        if adapter not in self._manifests:
            self._manifests[adapter] = None
            with self._patience(adapter), suppress(CommonloreError):
                self._manifests[adapter] = await self._catalog.adapter(adapter)
        return self._manifests[adapter]

    def _patience(self, cid: Cid) -> trio.CancelScope:
        """Ends what waits for content of others."""
        if self._content.has(cid):
            return trio.CancelScope()
        if self._until is None:
            self._until = trio.current_time() + PATIENCE_S
        return trio.CancelScope(deadline=self._until)

    async def _get(self, cid: Cid, most: int) -> bytes:
        """Raises NotFound also where it does not come soon, Unreachable."""
        with self._patience(cid):
            return await self._content.get(cid, most)
        raise NotFound(f"{cid} did not come within {PATIENCE_S:g} s")

    async def _listed(self, manifest: DatanetManifest) -> WithdrawalList:
        if manifest.withdrawn is None:
            return WithdrawalList({})
        return decode_withdrawals(await self._get(manifest.withdrawn, MAX_LIST_BYTES))

    async def _withdrawn(self, cid: Cid, sealed: Sealed[Withdrawal]) -> dict[str, Any] | None:
        try:
            shard = decode(Shard, await self._get(cid, CHUNK_SIZE))
            check_withdrawal(sealed, cid, shard)
        except CommonloreError as wrong:
            log.warning("a withdrawal of shard %s is not told: %s", cid, wrong)
            return None
        header, record = shard.header, sealed.record
        told: dict[str, Any] = plain(
            {
                "shard": cid,
                "contributor": header.contributor,
                "payee": header.payee,
                "rows": header.row_count,
                "reason": record.reason,
                "taken_back_ms": record.issued_ms,
            }
        )
        return told

    async def _header(self, shard: Cid) -> ShardHeader:
        return decode(Shard, await self._get(shard, CHUNK_SIZE)).header

    async def _difference(self, cid: Cid) -> Sealed[IndexDifference] | None:
        try:
            return open_difference(await self._get(cid, MAX_DIFFERENCE_BYTES), self._now_ms)
        except CommonloreError as wrong:
            log.warning("the index difference %s is not told: %s", cid, wrong)
            return None


def _day(moment_ms: int) -> str:
    return datetime.fromtimestamp(moment_ms / 1000, UTC).date().isoformat()
