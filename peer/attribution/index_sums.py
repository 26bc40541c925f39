"""Whether an index's sums are those of its rows, and those that its author committed to: before anybody is
scored by them."""

from __future__ import annotations

import trio

from ...protocol.attribution.index_trees import PublishedIndex, sums_root
from ...protocol.content.manifests import IndexManifest
from ...protocol.errors import RemoteProtocolError
from ...worker.attribution.index import check_index, map_file
from ..settling.committed_indexes import IndexStanding
from .index_evidence import ContentSource, rows_path, sums_path


async def require_sums(content: ContentSource, index: IndexManifest, standing: IndexStanding | None) -> None:
    """Raises RemoteProtocolError unless an index's rows and sums are what it says, and what was committed of
    it; NotFound, Unreachable where they cannot be had."""
    rows, sums = await rows_path(content, index), await sums_path(content, index)

    def check() -> None:
        published = PublishedIndex(index, map_file(rows), map_file(sums))
        check_index(index, published.rows, published.sums)
        if standing is not None:
            made = standing.commitment
            if (index.rows_root, sums_root(published)) != (made.rows_root, made.sums_root):
                raise RemoteProtocolError("the index is not what its author committed on the chain")

    await trio.to_thread.run_sync(check)
