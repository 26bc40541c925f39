"""An index and what was committed of it on the chain: what a commitment names, and whether an index's sums
are those that its author committed to, before anybody is scored by them."""

from __future__ import annotations

import trio

from ...protocol.attribution.index_trees import IndexCommitment, PublishedIndex, sums_root
from ...protocol.attribution.written_rows import Blob
from ...protocol.content.manifests import IndexManifest
from ...protocol.errors import NotFound, RemoteProtocolError, Unreachable
from ...protocol.ids import DAG_CBOR, RAW, cid_of_digest, digest_of
from ...protocol.signing.envelope import open_sealed
from ...worker.attribution.index import map_file
from ..settling.committed_indexes import IndexStanding
from .index_evidence import MAX_INDEX_BYTES, ContentSource, rows_path, sums_path


async def require_committed(
    content: ContentSource, index: IndexManifest, standing: IndexStanding | None
) -> None:
    """Raises RemoteProtocolError where an index's rows or sums are others than were committed, NotFound,
    Unreachable where they cannot be had. What nobody committed to is not looked at."""
    if standing is not None:
        sums = await sums_path(content, index)
        await trio.to_thread.run_sync(lambda: require_same_sums(index, map_file(sums), standing.commitment))


def require_same_sums(index: IndexManifest, sums: Blob, made: IndexCommitment) -> None:
    """Raises RemoteProtocolError unless the root of an index's rows, and its sums, are what was committed.
    Takes no rows: that the sums are theirs is another question."""
    if len(sums) != index.sums_bytes:
        raise RemoteProtocolError(f"the index's sums have {len(sums)} bytes, not {index.sums_bytes}")
    counts = index.row_count, len(index.contributors), index.width
    if (digest_of(index.adapter), index.rows_root, *counts) != (
        *(made.adapter, made.rows_root),
        *(made.row_count, made.sum_count, made.width),
    ):
        raise RemoteProtocolError("the index is not what its author committed on the chain")
    if sums_root(index, sums) != made.sums_root:
        raise RemoteProtocolError("the index's sums are not what its author committed on the chain")


async def published_index(content: ContentSource, commitment: IndexCommitment) -> PublishedIndex:
    """What was published under a commitment's digest. Raises NotFound, Unreachable, RemoteProtocolError,
    InvalidSignature."""
    raw = await _sealed(content, commitment.manifest)
    index = open_sealed(raw, (IndexManifest,), MAX_INDEX_BYTES).record
    if digest_of(index.adapter) != commitment.adapter:
        raise RemoteProtocolError(f"it is of {index.adapter}, and committed for another adapter")
    rows, sums = await rows_path(content, index), await sums_path(content, index)
    return PublishedIndex(index, map_file(rows), map_file(sums))


async def _sealed(content: ContentSource, digest: bytes) -> bytes:
    """The index behind its digest, which names it as one chunk or as several."""
    try:
        return await content.get(cid_of_digest(digest, RAW), MAX_INDEX_BYTES)
    except (NotFound, Unreachable):
        return await content.get(cid_of_digest(digest, DAG_CBOR), MAX_INDEX_BYTES)
