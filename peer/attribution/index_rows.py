"""Which rows an adapter's index has to hold: selected again from its Datanets, by whoever checks or scores.

Rules of this file: what is needed is public: the Datanets with their rows, and the record of dropped rows
that the adapter's manifest names. Where these cannot be had nothing is shown of an index, and nobody scores
by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import trio

from ...protocol.attribution.indexing import Owned, check_indexed, check_priors
from ...protocol.content.manifests import AdapterManifest, IndexManifest, Row
from ...protocol.content.rows import row_hash
from ...protocol.content.selections import MAX_SELECTION_BYTES, RowSelection
from ...protocol.encoding.codec import decode
from ...protocol.errors import RemoteProtocolError
from ...protocol.ids import Address, Cid
from ...protocol.signing.eip712 import Domain
from ...worker.factory.selection import OwnedShard, select_again
from ..blobs.content import Content
from ..catalog import Catalog
from ..datanets.shards import PulledDatanet, pull_datanet


class _Bytes(Protocol):
    async def get(self, cid: Cid, max_bytes: int) -> bytes:
        """The verified content. Raises NotFound, Unreachable."""
        ...


def owned_shards(pulled: Sequence[PulledDatanet]) -> list[OwnedShard]:
    """Every shard with its contributor's payee, in the order of Datanets and of commitments."""
    return [OwnedShard(shard.payee, shard.rows) for datanet in pulled for shard in datanet.shards]


def committed_rows(datanets: Sequence[PulledDatanet]) -> dict[bytes, tuple[Address, Row]]:
    """Rows by their hashes, each with the account of who committed it first: a copier's claim to a row that
    others committed before is none."""
    return {
        row_hash(row): (shard.payee, row)
        for datanet in reversed(datanets)
        for shard in reversed(datanet.shards)
        for row in shard.rows
    }


async def selection_of(content: _Bytes, manifest: AdapterManifest) -> RowSelection:
    """The record of an adapter's dropped rows. Raises NotFound, Unreachable, RemoteProtocolError."""
    if manifest.selection is None:
        raise RemoteProtocolError("the adapter's manifest does not say which rows were dropped, and why")
    raw = await content.get(manifest.selection, MAX_SELECTION_BYTES)
    return await trio.to_thread.run_sync(decode, RowSelection, raw, MAX_SELECTION_BYTES)


def counted_rows(datanets: Sequence[PulledDatanet], selection: RowSelection) -> list[Owned]:
    """The rows that count, selected again. Raises RemoteProtocolError where the record is not the rule's."""
    return select_again(owned_shards(datanets), selection).counted()


def check_rows_of(manifest: AdapterManifest, index: IndexManifest, counted: Sequence[Owned]) -> None:
    """Raises RemoteProtocolError unless an adapter's priors and index are those of its rows."""
    check_priors(manifest, counted)
    check_indexed(manifest, index, counted)


async def pull_all(
    content: Content, catalog: Catalog, domain: Domain, manifest: AdapterManifest
) -> list[PulledDatanet]:
    """The Datanets that an adapter learnt from. Raises as `pull_datanet`."""
    return [await pull_datanet(content, catalog, domain, datanet) for datanet in manifest.datanets]


async def require_whole(
    content: Content, catalog: Catalog, domain: Domain, manifest: AdapterManifest, index: IndexManifest
) -> list[PulledDatanet]:
    """The Datanets that an index's rows are of. Raises RemoteProtocolError unless it holds the rows that it
    must, NotFound or Unreachable where that cannot be told."""
    selection = await selection_of(content, manifest)
    datanets = await pull_all(content, catalog, domain, manifest)
    counted = await trio.to_thread.run_sync(counted_rows, datanets, selection)
    check_rows_of(manifest, index, counted)
    return datanets
