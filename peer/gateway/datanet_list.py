"""Datanets as people look at them: what their manifests and shards state, as far as that is soon had."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import trio

from ...protocol.content.manifests import Shard, ShardHeader
from ...protocol.encoding.codec import decode
from ...protocol.errors import CommonloreError
from ...protocol.gossip.adverts import DatanetRecord
from ...protocol.ids import CHUNK_SIZE, Cid
from .lineage import Named
from .views import plain

PATIENCE_S = 3.0
"""For whatever must be pulled; what has not come by then is not told."""


async def list_datanets(node: Named) -> list[dict[str, Any]]:
    """Every announced Datanet: `rows`, `contributors`, `licence` and `purpose` are None where unknown.

    Rows are counted as their contributors signed, not one by one.
    """
    records = node.catalog.datanets()
    told: dict[Cid, dict[str, Any]] = {}

    async def tell(record: DatanetRecord) -> None:
        with suppress(CommonloreError):  # then it is told as unknown
            told[record.datanet] = await _stated(node, record.datanet)

    with trio.move_on_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for record in records:
                nursery.start_soon(tell, record)
    unknown = dict.fromkeys(("rows", "contributors", "licence", "purpose"))
    return [{**plain(record), **told.get(record.datanet, unknown)} for record in records]


async def _stated(node: Named, datanet: Cid) -> dict[str, Any]:
    manifest = await node.catalog.datanet(datanet)
    headers = [await _header(node, cid) for cid in manifest.shards]
    return {
        "rows": sum(header.row_count for header in headers),
        "contributors": sorted({header.contributor for header in headers}),
        "licence": manifest.licence,
        "purpose": manifest.purpose,
    }


async def _header(node: Named, shard: Cid) -> ShardHeader:
    return decode(Shard, await node.content.get(shard, CHUNK_SIZE)).header
