"""An index and what was committed of it on the chain: what a commitment names, and whether an index's sums
are those that its author committed to, before anybody is scored by them."""

from __future__ import annotations

import trio

from ...protocol.attribution.index_trees import IndexCommitment, PublishedIndex, sums_root
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
    if standing is None:
        return
    sums, made = await sums_path(content, index), standing.commitment

    def found() -> tuple[bytes, bytes]:
        blob = map_file(sums)
        if len(blob) != index.sums_bytes:
            raise RemoteProtocolError(f"the index's sums have {len(blob)} bytes, not {index.sums_bytes}")
        return index.rows_root, sums_root(index, blob)

    if await trio.to_thread.run_sync(found) != (made.rows_root, made.sums_root):
        raise RemoteProtocolError("the index is not what its author committed on the chain")


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
