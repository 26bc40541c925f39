"""Withdrawn rows leave the gradient indexes of this home, and what takes their place is kept.

Rules of this file:
- Every sealed index among the blobs of this home is looked at, whoever made it and whether or not it is still
  announced. The vectors of rows that were withdrawn go with the blob that held them; the rows that stay, the
  leaves of the others and the differences of the sums are kept, under this peer's seal.
- An index that learnt from a withdrawn shard of which no row hashes are to be had cannot be divided: its rows
  go whole. Its sums and its seal stay.
- A row leaves where a shard that its adapter learnt from was withdrawn, as far as it is known here from what
  that learnt; that the same rows stand in another shard, which somebody withdrew, takes nothing out.
- Anybody seals an index, whose rows may be any content's name: what this home keeps for itself is deleted for
  its own indexes only.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress

import trio

from ...protocol.attribution.differences import (
    MAX_DIFFERENCE_BYTES,
    IndexDifference,
    OpenedShard,
    counts_of,
    leaving,
    write_differences,
    write_gone,
)
from ...protocol.attribution.scoring import check_shape
from ...protocol.content.manifests import IndexManifest
from ...protocol.encoding.codec import tag_of
from ...protocol.errors import CommonloreError
from ...protocol.ids import Cid
from ...protocol.signing.envelope import Sealed, open_sealed, seal
from ...worker.attribution.remainder import Remainder, take_out, taken_sums
from .difference_evidence import does_not_hold, opened_rows, read_difference
from .heard_differences import HeardDifferences
from .index_evidence import MAX_INDEX_BYTES, IndexEvidence, rows_of, sums_of

log = logging.getLogger("commonlore.peer.attribution.differences")
_TAG = tag_of(IndexManifest).encode()
_SEALED_INDEX = b"\x84" + bytes([0x60 + len(_TAG)]) + _TAG
"""How the envelope of an index begins: a list of four, and the record's tag."""


class Differences(HeardDifferences):
    """The differences of the indexes of one home."""

    async def subtract(self) -> None:
        """Take the rows of all withdrawn shards out of every index of this home. Nothing goes before all were
        looked at: several may be of the same rows."""
        outdated: dict[Cid, bool] = {}
        async with self._lock:
            for cid in await self._content.starting_with(_SEALED_INDEX):
                try:
                    raw = await self._content.get(cid, MAX_INDEX_BYTES)
                    sealed = open_sealed(raw, (IndexManifest,), MAX_INDEX_BYTES)
                    check_shape(sealed.record)
                    for rows, is_own in (await self._subtract_from(cid, sealed)).items():
                        outdated[rows] = is_own or outdated.get(rows, False)
                except CommonloreError as wrong:
                    log.warning("nothing was taken out of the index %s: %s", cid, wrong)
            self._forget(outdated)
        await self._tell()

    async def _tell(self) -> None:
        """Of what was made, once nothing waits for it."""
        while self._told and self.made is not None:
            index, difference = self._told.pop()
            try:
                await self.made(index, difference)
            except CommonloreError as wrong:
                log.warning("nobody is told of the difference of index %s: %s", index, wrong)

    async def _subtract_from(self, cid: Cid, sealed: Sealed[IndexManifest]) -> dict[Cid, bool]:
        """What of an index is to go: the rows that are here, and whether this peer sealed their names."""
        index, is_own = sealed.record, sealed.public_key == self._key.public
        learnt = await self._shards_of(index.adapter)
        opened = (await self.known()).opened
        asked = self._catalog.withdrawn if learnt is None else self._catalog.withdrawn & learnt
        shards, positions, unknown = await self._leaving(index, {each: opened.get(each) for each in asked})
        here = {index.rows: is_own, **await self._kept_here(cid)}
        if learnt is not None and unknown:
            if any(self._content.has(rows) for rows in here):
                log.warning("the rows of index %s go whole: whose of them were withdrawn is not known", cid)
            return here
        before = await self._before(cid, sealed, positions)
        if before is None or positions == before.gone.keys():
            return {}
        try:
            remainder = await trio.to_thread.run_sync(take_out, index, before, positions)
            difference = await self._keep(cid, index, remainder, shards)
        except CommonloreError as wrong:
            log.warning("the rows of index %s go whole, for it has no difference: %s", cid, wrong)
            return here
        await self._remember(cid, difference, latest=True)
        if self.made is not None:
            self._told.append((cid, difference))
        kept = await self._kept_of(difference)
        return {rows: is_ours for rows, is_ours in here.items() if rows != kept}

    async def _leaving(
        self, index: IndexManifest, asked: Mapping[Cid, Cid | None]
    ) -> tuple[list[OpenedShard], set[int], set[Cid]]:
        """Of withdrawn shards, by where their row hashes are: those that have rows in an index, where these
        stand, and the shards of which that cannot be told."""
        shards, positions, unknown = list[OpenedShard](), set[int](), set[Cid]()
        for shard, rows in asked.items():
            if rows is None:
                unknown.add(shard)
                continue
            opened = OpenedShard(shard, rows)
            try:
                withdrawn = await self._soon(opened_rows(self._content, opened))
            except CommonloreError as wrong:
                log.warning("the row hashes of withdrawn shard %s are not known: %s", shard, wrong)
                unknown.add(shard)
                continue
            if own := await trio.to_thread.run_sync(leaving, index, [withdrawn]):
                shards.append(opened)
                positions.update(own)
        return shards, positions, unknown

    async def _before(self, cid: Cid, sealed: Sealed[IndexManifest], positions: Set[int]) -> Remainder | None:
        """The vectors of an index that are here: all, or those that an earlier difference left, if it holds
        and took out none but withdrawn rows."""
        index = sealed.record
        if self._content.has(index.rows):
            return Remainder({}, await rows_of(self._content, index))
        for difference in (await self.known()).by_index.get(cid, ()):
            with suppress(CommonloreError):
                kept = await self._kept_of(difference)
                if kept is None or not self._content.has(kept):
                    continue
                read = read_difference(self._content, difference, (cid, index), self._clock.now_ms())
                found = await self._soon(read)
                sums = await self._soon(sums_of(self._content, index))
                evidence = IndexEvidence(sealed, None, sums, b"")
                wrong = await trio.to_thread.run_sync(does_not_hold, evidence, found)
                if not wrong and found.remainder.gone.keys() <= positions:
                    return found.remainder
        return None

    async def _keep(
        self, cid: Cid, index: IndexManifest, remainder: Remainder, shards: Sequence[OpenedShard]
    ) -> Cid:
        """The blobs of a difference and its sealed record; its name."""
        put = self._content.put
        sums = await self._soon(sums_of(self._content, index))
        taken = await trio.to_thread.run_sync(taken_sums, index, remainder, sums)
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

    async def _kept_here(self, cid: Cid) -> dict[Cid, bool]:
        """The rows that earlier differences of an index left, and whether this peer made these."""
        found: dict[Cid, bool] = {}
        for name in (await self.known()).by_index.get(cid, ()):
            with suppress(CommonloreError):
                sealed = await self._opened(name)
                if sealed is not None and sealed.record.kept is not None:
                    is_ours = sealed.public_key == self._key.public
                    found[sealed.record.kept] = is_ours or found.get(sealed.record.kept, False)
        return found

    async def _kept_of(self, difference: Cid) -> Cid | None:
        sealed = await self._opened(difference)
        return None if sealed is None else sealed.record.kept

    async def fetch(self, cid: Cid) -> None:
        """Have all of an index here, so that what is withdrawn can be taken out of it. Raises NotFound,
        Unreachable, RemoteProtocolError, InvalidSignature."""
        raw = await self._content.get(cid, MAX_INDEX_BYTES)
        index = open_sealed(raw, (IndexManifest,), MAX_INDEX_BYTES).record
        if not (await self.known()).by_index.get(cid):
            await rows_of(self._content, index)
        await sums_of(self._content, index)
