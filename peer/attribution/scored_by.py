"""What an adapter is scored by: fetched from others and found right, before anybody waits for it.

Rules of this file: strangers decide how fast their files come, so nothing here is done while others wait for
their turn. Everything that scoring reads afterwards is on this machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...protocol.attribution.faithfulness import coarse_method
from ...protocol.attribution.indexing import check_beacon
from ...protocol.content.manifests import AdapterManifest, IndexManifest
from ...protocol.errors import NotFound
from ...protocol.gossip.adverts import AdapterRecord
from ...protocol.ids import Cid
from ...worker.attribution.subject import Subject, subject_of
from ..datanets.shards import PulledDatanet
from ..node import Node
from ..settling.beacons import registered_beacon
from ..settling.committed_indexes import IndexStanding, standing_of
from .index_committed import require_committed
from .index_evidence import curvature_of, early_of, index_of, rows_path, sums_path
from .index_rows import require_whole
from .measured import faithfulness_of


@dataclass(frozen=True, slots=True)
class ScoredBy:
    """`coarse` is the method that the priors go by, where nothing that was announced lets scores divide."""

    index: IndexManifest
    datanets: list[PulledDatanet]
    subject: Subject
    sums: Path
    coarse: str | None


async def fetch_scored_by(node: Node, manifest: AdapterManifest, record: AdapterRecord) -> ScoredBy:
    """By what its author announced. Raises NotFound, Unreachable, RemoteProtocolError, InvalidSignature."""
    index_id, content = announced_index(record), node.content
    standing = await require_standing(node, manifest, index_id)
    index = (await index_of(content, index_id, manifest)).record
    datanets = await require_drawn(node, manifest, index)
    await require_committed(content, index, standing)
    early, curvature = await early_of(content, manifest), await curvature_of(content, manifest)
    sums, found = await sums_path(content, index), None
    if record.faithfulness is not None:
        found = await faithfulness_of(content, record.faithfulness, manifest)
    coarse = coarse_method(found, index_id)
    if coarse is None:
        await rows_path(content, index)  # some are computed again before the first score
    return ScoredBy(index, datanets, subject_of(manifest, early, curvature, index.beacon), sums, coarse)


def announced_index(record: AdapterRecord) -> Cid:
    """The index that a record names. Raises NotFound where it names none."""
    if record.index is None:
        raise NotFound(f"adapter {record.adapter} has no gradient index; prior weights apply")
    return record.index


async def require_drawn(node: Node, manifest: AdapterManifest, index: IndexManifest) -> list[PulledDatanet]:
    """The Datanets that an index's rows are of. Raises RemoteProtocolError unless neither its projection nor
    its rows were chosen, NotFound, Unreachable or ChainError where that cannot be told."""
    check_beacon(index, await registered_beacon(node.domain, node.chain.client, manifest))
    return await require_whole(node.content, node.catalog, node.domain, manifest, index)


async def require_standing(node: Node, manifest: AdapterManifest, index: Cid) -> IndexStanding | None:
    """What its author committed of an index. Raises RemoteProtocolError where it was shown wrong, NotFound,
    Unreachable or ChainError where that cannot be told."""
    standing = await standing_of(node.domain, node.chain.client, manifest, index)
    if standing is not None:
        standing.require()
    return standing
