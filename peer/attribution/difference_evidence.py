"""An index difference and what belongs to it, as blobs: fetched within bounds and held to the index it is of.

Rules of this file: a difference counts for what it shows, whoever sealed it. What is larger than the index
lets it be is not fetched.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

import trio

from ...protocol.attribution.differences import (
    MAX_DIFFERENCE_BYTES,
    IndexDifference,
    OpenedShard,
    check_gone,
    differences_bytes,
    gone_bytes,
    leaving,
    open_difference,
    read_differences,
    read_gone,
    read_hashes,
    shards_named,
)
from ...protocol.attribution.scoring import check_shape
from ...protocol.attribution.written_rows import Blob
from ...protocol.content.manifests import MAX_ROWS_PER_SHARD, IndexManifest, Shard
from ...protocol.encoding.codec import decode
from ...protocol.errors import CommonloreError, ProtocolError, RemoteProtocolError
from ...protocol.ids import CHUNK_SIZE, Address, Cid
from ...worker.attribution.index import map_file
from ...worker.attribution.remainder import Remainder, check_remainder
from .index_evidence import ContentSource, DifferenceEvidence, IndexEvidence, fitting

log = logging.getLogger("commonlore.peer.attribution.difference_evidence")
MAX_HASHES_BYTES = 32 * MAX_ROWS_PER_SHARD


@dataclass(frozen=True, slots=True)
class TakenBack:
    """The withdrawn shards that an adapter learnt from, and whose their rows were, by row hash, as far as
    these are known here."""

    shards: Set[Cid] = frozenset()
    rows: Mapping[bytes, Address] = field(default_factory=dict[bytes, Address])


async def read_difference(
    content: ContentSource, cid: Cid, index: tuple[Cid, IndexManifest], now_ms: int
) -> DifferenceEvidence:
    """The difference of this name, of an index (its name, and what was sealed).

    Raises NotFound, Unreachable, RemoteProtocolError, InvalidSignature.
    """
    name, manifest = index
    check_shape(manifest)
    sealed = open_difference(await content.get(cid, MAX_DIFFERENCE_BYTES), now_ms)
    difference = sealed.record
    if difference.index != name or difference.row_count > manifest.row_count:
        raise RemoteProtocolError("the index difference is of another index")
    gone = read_gone(await content.get(difference.gone, gone_bytes(difference.row_count)), manifest)
    withdrawn = [await opened_rows(content, opened) for opened in difference.shards]
    check_gone(difference, manifest, gone, withdrawn)
    size = max(fitting(manifest, differences_bytes(difference, manifest)), 1)
    taken = read_differences(difference, manifest, await content.get(difference.sums, size))
    return DifferenceEvidence(sealed, Remainder(gone, await _kept(content, difference, manifest)), taken)


async def opened_rows(content: ContentSource, opened: OpenedShard) -> tuple[Address, frozenset[bytes]]:
    """Whose a withdrawn shard was, and its row hashes. Raises NotFound, Unreachable, RemoteProtocolError."""
    header = decode(Shard, await content.get(opened.shard, CHUNK_SIZE)).header
    blob = await content.get(opened.rows, MAX_HASHES_BYTES)
    return header.payee, frozenset(await trio.to_thread.run_sync(read_hashes, header, blob))


async def _kept(content: ContentSource, difference: IndexDifference, manifest: IndexManifest) -> Blob:
    left = manifest.row_count - difference.row_count
    if (difference.kept is None) != (left == 0):
        raise RemoteProtocolError(f"{left} rows stay in the index, and the difference says otherwise")
    if difference.kept is None:
        return b""
    return map_file(await content.path(difference.kept, fitting(manifest, left * manifest.row_bytes)))


async def what_is_left(
    content: ContentSource,
    names: Sequence[Cid],
    index: tuple[Cid, IndexEvidence],
    withdrawn: TakenBack,
    now_ms: int,
) -> DifferenceEvidence | None:
    """Of the differences of these names, what takes most out of an index and holds; where none holds, one
    that does not, so that it can be said why. None where none can be had. What takes out rows of other than
    withdrawn shards, or leaves rows in that are known to be withdrawn, is not fetched."""
    name, evidence = index
    check_shape(evidence.manifest)
    first: DifferenceEvidence | None = None
    for cid in await _by_size(content, names, evidence.manifest, withdrawn, now_ms):
        try:
            found = await read_difference(content, cid, (name, evidence.manifest), now_ms)
        except CommonloreError as error:
            log.warning("the index difference %s does not count: %s", cid, error)
            continue
        if not await trio.to_thread.run_sync(does_not_hold, evidence, found):
            return found
        first = first or found
    return first


async def _by_size(
    content: ContentSource, names: Sequence[Cid], index: IndexManifest, withdrawn: TakenBack, now_ms: int
) -> list[Cid]:
    """Those that can be read, of withdrawn shards only, that take at least so many rows out as must be; what
    takes most out first."""
    hashes: dict[Address, set[bytes]] = {}
    for row, payee in withdrawn.rows.items():
        hashes.setdefault(payee, set()).add(row)
    least, counts = len(leaving(index, hashes.items())), dict[Cid, int]()
    for cid in names:
        try:
            record = open_difference(await content.get(cid, MAX_DIFFERENCE_BYTES), now_ms).record
        except CommonloreError as error:
            log.warning("the index difference %s cannot be read: %s", cid, error)
            continue
        if shards_named([record]) <= withdrawn.shards:
            counts[cid] = record.row_count
    return sorted((cid for cid in counts if counts[cid] >= least), key=lambda cid: -counts[cid])


def does_not_hold(index: IndexEvidence, difference: DifferenceEvidence) -> str:
    """Why a difference is not one of this index; empty where it is."""
    try:
        check_remainder(index.manifest, difference.remainder, index.sums, difference.taken)
    except ProtocolError as wrong:
        return str(wrong)
    return ""
