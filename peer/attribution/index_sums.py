"""Whether an index's sums are those that its author committed to on the chain: before anybody is scored by
them."""

from __future__ import annotations

import trio

from ...protocol.attribution.index_trees import sums_root
from ...protocol.content.manifests import IndexManifest
from ...protocol.errors import RemoteProtocolError
from ...worker.attribution.index import map_file
from ..settling.committed_indexes import IndexStanding
from .index_evidence import ContentSource, sums_path


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
