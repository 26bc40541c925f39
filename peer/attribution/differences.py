"""Withdrawn rows leave the gradient indexes of this home, and what takes their place is kept.

Rules of this file:
- Every sealed index among the blobs of this home is looked at, whoever made it and whether or not it is still
  announced. The vectors of rows that were withdrawn go with the blob that held them; the rows that stay, the
  leaves of the others and the differences of the sums are kept, under this peer's seal.
- An index that learnt from a withdrawn shard of which no row hashes are to be had cannot be divided: its rows
  go whole. Its sums and its seal stay.
- A difference made elsewhere is remembered by its name and read when somebody asks for it. It counts where it
  holds, so a wrong one harms nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from ...protocol.attribution.differences import (
    MAX_DIFFERENCE_BYTES,
    IndexDifference,
    OpenedShard,
    counts_of,
    leaving,
    open_difference,
    shards_named,
    write_differences,
    write_gone,
    write_hashes,
)
from ...protocol.content.manifests import IndexManifest, Row
from ...protocol.content.rows import row_hash
from ...protocol.content.withdrawals import MAX_LIST_BYTES
from ...protocol.encoding.codec import decode_value, encode_value, tag_of
from ...protocol.errors import CommonloreError, NotFound
from ...protocol.ids import Address, Cid, to_cid
from ...protocol.signing.envelope import open_sealed, seal
from ...protocol.signing.keys import PeerKey
from ...worker.attribution.remainder import Remainder, take_out, taken_sums
from ..blobs.content import Content
from ..catalog import Catalog
from ..clock import Clock
from ..store.node_store import Settings
from .difference_evidence import opened_rows, read_difference
from .index_evidence import MAX_INDEX_BYTES, rows_of, sums_of

log = logging.getLogger("commonlore.peer.attribution.differences")
_OPENED, _KNOWN = "withdrawn rows", "index differences"
_TAG = tag_of(IndexManifest).encode()
_SEALED_INDEX = b"\x84" + bytes([0x60 + len(_TAG)]) + _TAG
"""How the envelope of an index begins: a list of four, and the record's tag."""
MAX_KNOWN = 8
"""Differences remembered of an index: more than one where several peers made it, or in their turn."""
_Withdrawn = Mapping[Cid, tuple[OpenedShard, Address, Collection[bytes]]]


@dataclass(frozen=True, slots=True)
class KnownDifferences:
    """What a home remembers: names of differences by index, the latest first; by shard, those of the row
    hashes of what was withdrawn."""

    by_index: Mapping[Cid, tuple[Cid, ...]] = field(default_factory=dict[Cid, tuple[Cid, ...]])
    opened: Mapping[Cid, Cid] = field(default_factory=dict[Cid, Cid])


async def known_differences(settings: Settings) -> KnownDifferences:
    """As a home remembers them."""
    by_index, opened = [await _read(settings, name) for name in (_KNOWN, _OPENED)]
    lists = {to_cid(index): cids for index, cids in by_index.items() if isinstance(cids, list)}
    return KnownDifferences(
        {index: tuple(to_cid(cid) for cid in cids if isinstance(cid, str)) for index, cids in lists.items()},
        {to_cid(shard): to_cid(rows) for shard, rows in opened.items() if isinstance(rows, str)},
    )


async def _read(settings: Settings, name: str) -> Mapping[str, object]:
    raw = await settings.get(name)
    found = decode_value(raw, MAX_LIST_BYTES) if raw is not None else {}
    return found if isinstance(found, dict) else {}


class Differences:
    """The differences of the indexes of one home."""

    def __init__(
        self, content: Content, catalog: Catalog, settings: Settings, key: PeerKey, clock: Clock
    ) -> None:
        self._content = content
        self._catalog = catalog
        self._settings = settings
        self._key = key
        self._clock = clock
        self._lock = trio.Lock()

    async def known(self) -> KnownDifferences:
        """What this home remembers."""
        return await known_differences(self._settings)

    async def open(self, shard: Cid, rows: Sequence[Row]) -> None:
        """Keep the hashes of a withdrawn shard's rows, which are about to go."""
        hashes = await trio.to_thread.run_sync(lambda: write_hashes(row_hash(row) for row in rows))
        async with self._lock:
            await self._remember_opened(OpenedShard(shard, await self._content.put(hashes)))

    async def hear(self, listed: Sequence[Cid], withdrawn: Collection[Cid]) -> None:
        """Remember differences that a Datanet version names with the shards that it says were withdrawn, and
        whose rows left. What is damaged, or of other shards, is passed over. Raises NotFound, Unreachable."""
        async with self._lock:
            known = {cid for cids in (await self.known()).by_index.values() for cid in cids}
            for cid in [each for each in listed if each not in known]:
                raw = await self._content.get(cid, MAX_DIFFERENCE_BYTES)
                try:
                    difference = open_difference(raw, self._clock.now_ms()).record
                except CommonloreError as wrong:
                    log.warning("the index difference %s is passed over: %s", cid, wrong)
                    continue
                if not shards_named([difference]) & set(withdrawn):
                    log.warning("the index difference %s is of shards that this version does not name", cid)
                    continue
                await self._remember(difference.index, cid, latest=False)
                for opened in difference.shards:
                    await self._hear_opened(opened)

    async def _hear_opened(self, opened: OpenedShard) -> None:
        """Row hashes that somebody else kept, where they are those of the shard."""
        if opened.shard in (await self.known()).opened:
            return
        try:
            await opened_rows(self._content, opened)
        except CommonloreError as wrong:
            log.warning("the row hashes of withdrawn shard %s are not known: %s", opened.shard, wrong)
        else:
            await self._remember_opened(opened)

    async def subtract(self) -> None:
        """Take the rows of all withdrawn shards out of every index of this home."""
        async with self._lock:
            withdrawn = await self._withdrawn()
            for cid in await self._content.starting_with(_SEALED_INDEX):
                try:
                    raw = await self._content.get(cid, MAX_INDEX_BYTES)
                    index = open_sealed(raw, (IndexManifest,), MAX_INDEX_BYTES).record
                    await self._subtract_from(cid, index, withdrawn)
                except CommonloreError as wrong:
                    log.warning("nothing was taken out of the index %s: %s", cid, wrong)

    async def _withdrawn(self) -> _Withdrawn:
        """The withdrawn shards whose row hashes are known."""
        found: dict[Cid, tuple[OpenedShard, Address, Collection[bytes]]] = {}
        for shard, rows in (await self.known()).opened.items():
            if shard in self._catalog.withdrawn:
                opened = OpenedShard(shard, rows)
                found[shard] = (opened, *await opened_rows(self._content, opened))
        return found

    async def _subtract_from(self, cid: Cid, index: IndexManifest, withdrawn: _Withdrawn) -> None:
        before = await self._before(cid, index)
        if before is None:
            return
        if not await self._can_divide(index, withdrawn):
            log.warning("the rows of index %s go whole: whose of them were withdrawn is not known", cid)
            return self._content.forget(index.rows)
        positions = leaving(index, [(payee, hashes) for _, payee, hashes in withdrawn.values()])
        if set(positions) == before.gone.keys():
            return None
        remainder = await trio.to_thread.run_sync(take_out, index, before, positions)
        difference = await self._keep(cid, index, remainder, _touching(index, withdrawn))
        earlier = await self._own_kept(cid)
        await self._remember(cid, difference, latest=True)
        for gone in {index.rows, *earlier} - {await self._kept_of(difference)}:
            self._content.forget(gone)
        return None

    async def _before(self, cid: Cid, index: IndexManifest) -> Remainder | None:
        """The vectors of an index that are here: all, or those that an earlier difference left."""
        if self._content.has(index.rows):
            return Remainder({}, await rows_of(self._content, index))
        for difference in (await self.known()).by_index.get(cid, ()):
            kept = await self._kept_of(difference)
            if kept is not None and self._content.has(kept):
                with suppress(CommonloreError):
                    found = await read_difference(
                        self._content, difference, (cid, index), self._clock.now_ms()
                    )
                    return found.remainder
        return None

    async def _can_divide(self, index: IndexManifest, withdrawn: _Withdrawn) -> bool:
        """Whether the row hashes of every withdrawn shard that its adapter may have learnt from are known."""
        unknown = self._catalog.withdrawn - withdrawn.keys()
        if not unknown or not self._content.has(index.adapter):
            return True
        versions = [v for v in (await self._catalog.adapter(index.adapter)).datanets if self._content.has(v)]
        return all([unknown.isdisjoint((await self._catalog.datanet(v)).shards) for v in versions])

    async def _keep(
        self, cid: Cid, index: IndexManifest, remainder: Remainder, shards: Sequence[OpenedShard]
    ) -> Cid:
        """The blobs of a difference and its sealed record; its name."""
        put = self._content.put
        taken = taken_sums(index, remainder, await sums_of(self._content, index))
        difference = IndexDifference(
            adapter=index.adapter,
            index=cid,
            shards=tuple(sorted(shards, key=lambda opened: opened.shard)),
            gone=await put(write_gone(remainder.gone)),
            kept=await put(bytes(remainder.kept)) if remainder.kept else None,
            sums=await put(write_differences(taken.values())),
            contributors=counts_of(index, remainder.gone),
            issued_ms=self._clock.now_ms(),
        )
        return await put(seal(self._key, difference, MAX_DIFFERENCE_BYTES))

    async def _own_kept(self, cid: Cid) -> set[Cid]:
        """The rows that earlier differences of an index left here."""
        names = (await self.known()).by_index.get(cid, ())
        return {kept for kept in [await self._kept_of(name) for name in names] if kept is not None}

    async def _kept_of(self, difference: Cid) -> Cid | None:
        if not self._content.has(difference):
            return None
        raw = await self._content.get(difference, MAX_DIFFERENCE_BYTES)
        return open_difference(raw, self._clock.now_ms()).record.kept

    async def _remember(self, index: Cid, difference: Cid, latest: bool) -> None:
        known = dict((await self.known()).by_index)
        others = tuple(each for each in known.get(index, ()) if each != difference)
        known[index] = ((difference, *others) if latest else (*others, difference))[:MAX_KNOWN]
        await self._settings.put(_KNOWN, encode_value({key: [*known[key]] for key in sorted(known)}))

    async def _remember_opened(self, opened: OpenedShard) -> None:
        known = dict((await self.known()).opened) | {opened.shard: opened.rows}
        await self._settings.put(_OPENED, encode_value({key: known[key] for key in sorted(known)}))

    async def fetch(self, cid: Cid) -> None:
        """Have all of an index here, so that what is withdrawn can be taken out of it. Raises NotFound,
        Unreachable, RemoteProtocolError, InvalidSignature."""
        raw = await self._content.get(cid, MAX_INDEX_BYTES)
        index = open_sealed(raw, (IndexManifest,), MAX_INDEX_BYTES).record
        if not (await self.known()).by_index.get(cid):
            await rows_of(self._content, index)
        await sums_of(self._content, index)

    async def latest(self, cid: Cid) -> tuple[Cid, IndexDifference] | None:
        """The difference of an index that is here and takes the most out of it."""
        found: list[tuple[Cid, IndexDifference]] = []
        for name in (await self.known()).by_index.get(cid, ()):
            with suppress(NotFound):
                raw = await self._content.get(name, MAX_DIFFERENCE_BYTES)
                found.append((name, open_difference(raw, self._clock.now_ms()).record))
        return max(found, key=lambda each: each[1].row_count, default=None)


def _touching(index: IndexManifest, withdrawn: _Withdrawn) -> list[OpenedShard]:
    """The withdrawn shards that have rows in an index."""
    return [opened for opened, payee, hashes in withdrawn.values() if leaving(index, [(payee, hashes)])]
