"""Index differences that a home hears of, and what it knows of them.

Rules of this file: a difference made elsewhere is remembered by its name and read when somebody asks for it.
It counts where it holds, so a wrong one harms nobody. What strangers name is deleted only if it was fetched.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress

import trio

from ...protocol.attribution.differences import (
    MAX_DIFFERENCE_BYTES,
    IndexDifference,
    OpenedShard,
    open_difference,
    shards_named,
    write_hashes,
)
from ...protocol.content.manifests import Row
from ...protocol.content.rows import row_hash
from ...protocol.errors import CommonloreError, NotFound, RemoteProtocolError, Unreachable
from ...protocol.ids import Cid
from ...protocol.signing.envelope import Sealed
from ...protocol.signing.keys import PeerKey
from ..blobs.content import Content
from ..catalog import Catalog
from ..clock import Clock
from ..store.node_store import Settings
from .difference_evidence import opened_rows
from .known_differences import KnownDifferences, known_differences, remember_difference, remember_opened

log = logging.getLogger("commonlore.peer.attribution.heard_differences")


class HeardDifferences:
    """What a home remembers of differences, whoever made them."""

    def __init__(
        self, content: Content, catalog: Catalog, settings: Settings, key: PeerKey, clock: Clock
    ) -> None:
        self._content = content
        self._catalog = catalog
        self._settings = settings
        self._key = key
        self._clock = clock
        self._lock = trio.Lock()
        self.made: Callable[[Cid, Cid], Awaitable[None]] | None = None
        """Told of each difference that is made here: the index's name, and its own."""
        self._told: list[tuple[Cid, Cid]] = []

    async def known(self) -> KnownDifferences:
        """What this home remembers."""
        return await known_differences(self._settings)

    async def open(self, shard: Cid, rows: Sequence[Row]) -> None:
        """Keep the hashes of a withdrawn shard's rows, which are about to go."""
        hashes = await trio.to_thread.run_sync(lambda: write_hashes(row_hash(row) for row in rows))
        async with self._lock:
            await remember_opened(self._settings, OpenedShard(shard, await self._content.put(hashes)))

    async def hear(self, listed: Sequence[Cid], withdrawn: Collection[Cid]) -> None:
        """Remember differences that a Datanet version names with the shards that it withdraws, whose rows
        left. What is damaged, or of others' shards, is passed over. Raises NotFound, Unreachable where one
        could not be had, after the others."""
        known = {cid for cids in (await self.known()).by_index.values() for cid in cids}
        missing: NotFound | Unreachable | None = None
        for cid in [each for each in listed if each not in known]:
            try:
                raw = await self._content.get(cid, MAX_DIFFERENCE_BYTES)
            except (NotFound, Unreachable) as error:
                missing = error
                continue
            async with self._lock:
                await self._take_in(cid, raw, withdrawn)
        if missing is not None:
            raise missing

    async def _take_in(self, cid: Cid, raw: bytes, withdrawn: Collection[Cid]) -> None:
        try:
            difference = open_difference(raw, self._clock.now_ms()).record
            self._require_of(difference, withdrawn, await self._shards_of(difference.adapter))
        except CommonloreError as wrong:
            log.warning("the index difference %s is passed over: %s", cid, wrong)
            self._forget({cid: False})
            return
        await self._remember(difference.index, cid, latest=False)
        for opened in difference.shards:
            if opened.shard in withdrawn or opened.shard in self._catalog.withdrawn:
                await self._hear_opened(opened)

    async def hear_author(self, index: Cid, cid: Cid, author: bytes) -> None:
        """Remember a difference that whoever announces an index has made of it. What cannot be read, or is
        somebody else's or of others' shards, is passed over."""
        async with self._lock:
            if cid in (await self.known()).by_index.get(index, ()):
                return
            try:
                raw = await self._content.get(cid, MAX_DIFFERENCE_BYTES)
                sealed = open_difference(raw, self._clock.now_ms())
                shards = shards_named([sealed.record])
                self._require_of(sealed.record, shards, await self._shards_of(sealed.record.adapter))
            except CommonloreError as wrong:
                log.warning("the index difference %s is passed over: %s", cid, wrong)
                return
            if (sealed.public_key, sealed.record.index) == (author, index):
                await self._remember(index, cid, latest=False)
                for opened in sealed.record.shards:
                    if opened.shard in self._catalog.withdrawn:
                        await self._hear_opened(opened)

    def _require_of(
        self, difference: IndexDifference, withdrawn: Collection[Cid], learnt: frozenset[Cid] | None
    ) -> None:
        """Raises RemoteProtocolError unless a difference is of withdrawn shards, which its adapter has learnt
        from as far as that is known here."""
        shards = shards_named([difference])
        if shards.isdisjoint(withdrawn):
            raise RemoteProtocolError("it is of shards that this version does not withdraw")
        if learnt is not None and not shards <= learnt:
            raise RemoteProtocolError("it is of shards that its adapter did not learn from")

    async def _hear_opened(self, opened: OpenedShard) -> None:
        """Row hashes that somebody else kept, where they are those of the shard."""
        if opened.shard in (await self.known()).opened:
            return
        try:
            await opened_rows(self._content, opened)
        except CommonloreError as wrong:
            log.warning("the row hashes of withdrawn shard %s are not known: %s", opened.shard, wrong)
        else:
            await remember_opened(self._settings, opened)

    async def _shards_of(self, adapter: Cid) -> frozenset[Cid] | None:
        """All shards that an adapter may have learnt from; None where this home cannot tell."""
        if not self._content.has(adapter):
            return None
        versions = (await self._catalog.adapter(adapter)).datanets
        if not all(self._content.has(version) for version in versions):
            return None
        return frozenset([s for version in versions for s in (await self._catalog.datanet(version)).shards])

    async def _opened(self, difference: Cid) -> Sealed[IndexDifference] | None:
        """A difference that is here."""
        if not self._content.has(difference):
            return None
        return open_difference(
            await self._content.get(difference, MAX_DIFFERENCE_BYTES), self._clock.now_ms()
        )

    def _forget(self, named: Mapping[Cid, bool]) -> None:
        """Content, and whether this peer sealed its name. What others sealed may name any content of this
        home: what it keeps for itself stays."""
        for cid, is_own in named.items():
            if is_own or not self._content.is_pinned(cid):
                self._content.forget(cid)

    async def _remember(self, index: Cid, difference: Cid, latest: bool) -> None:
        await remember_difference(self._settings, index, difference, latest, self._content.has)

    async def latest(self, cid: Cid) -> tuple[Cid, IndexDifference] | None:
        """The difference of an index that takes the most out of it: this peer's own before others', which
        were not held to the index."""
        found: list[tuple[bool, int, Cid, IndexDifference]] = []
        for name in (await self.known()).by_index.get(cid, ()):
            with suppress(CommonloreError):
                raw = await self._content.get(name, MAX_DIFFERENCE_BYTES)
                sealed = open_difference(raw, self._clock.now_ms())
                is_own = sealed.public_key == self._key.public
                found.append((is_own, sealed.record.row_count, name, sealed.record))
        best = max(found, key=lambda each: each[:2], default=None)
        return None if best is None else best[2:]
