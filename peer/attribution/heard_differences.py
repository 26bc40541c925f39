"""Index differences that a home hears of, and what it knows of them.

Rules of this file: a difference made elsewhere is remembered by its name and read when somebody asks for it.
It counts where it holds, so a wrong one harms nobody. What strangers name is deleted only if it was fetched.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

import trio

from ...protocol.attribution.differences import (
    MAX_DIFFERENCE_BYTES,
    IndexDifference,
    OpenedShard,
    open_difference,
    shards_named,
    write_hashes,
)
from ...protocol.content.manifests import IndexManifest, Row
from ...protocol.content.rows import row_hash
from ...protocol.errors import CommonloreError, NotFound, RemoteProtocolError, Unreachable
from ...protocol.ids import Cid
from ...protocol.signing.envelope import Sealed, open_sealed
from ...protocol.signing.keys import PeerKey
from ..blobs.content import Content
from ..catalog import Catalog
from ..clock import Clock
from ..store.node_store import Settings
from .difference_evidence import opened_rows
from .index_evidence import MAX_INDEX_BYTES
from .known_differences import KnownDifferences, known_differences, remember_difference, remember_opened

log = logging.getLogger("commonlore.peer.attribution.heard_differences")
HEAR_PATIENCE_S, LIST_PATIENCE_S, MOST_HEARD = 60.0, 300.0, 8
"""How long is waited for one thing that strangers hold, for all that a version names once something is
missing, and for how many announced differences at once."""
T = TypeVar("T")


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
        """Whoever holds it waits for nothing that others have, or not for long: withdrawals need it."""
        self._hearing = trio.Semaphore(MOST_HEARD)
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
        until = trio.current_time() + LIST_PATIENCE_S
        for cid in [each for each in listed if each not in known]:
            if missing is not None and trio.current_time() > until:
                break
            try:
                raw = await self._soon(self._content.get(cid, MAX_DIFFERENCE_BYTES))
            except (NotFound, Unreachable) as error:
                missing = error
                continue
            await self._hear_opened(await self._take_in(cid, raw, withdrawn), withdrawn)
        if missing is not None:
            raise missing

    async def _take_in(self, cid: Cid, raw: bytes, withdrawn: Collection[Cid]) -> Sequence[OpenedShard]:
        async with self._lock:
            try:
                difference = open_difference(raw, self._clock.now_ms()).record
                self._require_of(difference, withdrawn, await self._shards_of(difference.adapter))
            except CommonloreError as wrong:
                log.warning("the index difference %s is passed over: %s", cid, wrong)
                self._forget({cid: False})
                return ()
            await self._remember(difference.index, cid, latest=False)
            return difference.shards

    async def hear_author(self, index: Cid, cid: Cid, author: bytes) -> None:
        """Remember a difference that whoever announces an index has made of it. What does not come soon,
        cannot be read, or is of an index, an adapter or shards of somebody else, is passed over."""
        async with self._hearing:
            if cid in (await self.known()).by_index.get(index, ()):
                return
            try:
                raw = await self._soon(self._content.get(cid, MAX_DIFFERENCE_BYTES))
                async with self._lock:
                    opened = await self._take_in_from(author, index, cid, raw)
            except CommonloreError as wrong:
                log.warning("the index difference %s is passed over: %s", cid, wrong)
            else:
                await self._hear_opened(opened)

    async def _take_in_from(self, author: bytes, index: Cid, cid: Cid, raw: bytes) -> Sequence[OpenedShard]:
        sealed = open_difference(raw, self._clock.now_ms())
        difference = sealed.record
        if (sealed.public_key, difference.index) != (author, index):
            raise RemoteProtocolError("it is not its announcer's, or of another index")
        await self._require_author(author, difference)
        shards = shards_named([difference])
        self._require_of(difference, shards, await self._shards_of(difference.adapter))
        await self._remember(index, cid, latest=False)
        return difference.shards

    async def _require_author(self, author: bytes, difference: IndexDifference) -> None:
        """Raises RemoteProtocolError where adapter or index are known here to be somebody else's: anybody may
        announce anybody's."""
        has, adapter = self._content.has, difference.adapter
        if has(adapter) and (await self._catalog.adapter(adapter)).author != author:
            raise RemoteProtocolError("it is of an adapter of somebody else")
        if has(difference.index):
            raw = await self._content.get(difference.index, MAX_INDEX_BYTES)
            sealed = await trio.to_thread.run_sync(open_sealed, raw, (IndexManifest,), MAX_INDEX_BYTES)
            if (sealed.public_key, sealed.record.adapter) != (author, adapter):
                raise RemoteProtocolError("it is of an index of somebody else")

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

    async def _hear_opened(self, shards: Sequence[OpenedShard], withdrawn: Collection[Cid] = ()) -> None:
        """Row hashes of withdrawn shards that somebody else kept, where they are those of the shards."""
        known = (await self.known()).opened
        for opened in shards:
            if opened.shard in known or opened.shard not in {*withdrawn, *self._catalog.withdrawn}:
                continue
            try:
                await self._soon(opened_rows(self._content, opened))
            except CommonloreError as wrong:
                log.warning("the row hashes of withdrawn shard %s are not known: %s", opened.shard, wrong)
            else:
                async with self._lock:
                    await remember_opened(self._settings, opened)

    async def _soon(self, reading: Awaitable[T]) -> T:
        """What others may have to send. Raises NotFound where it does not come soon, and as reading it
        does."""
        with trio.move_on_after(HEAR_PATIENCE_S):
            return await reading
        raise NotFound(f"it did not come within {HEAR_PATIENCE_S:g} s")

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
