"""From whom a difference took rows out of an index, as it is told to people."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from ...protocol.attribution.differences import IndexDifference
from ...protocol.content.manifests import ShardHeader
from ...protocol.errors import CommonloreError
from ...protocol.ids import Address, Cid


async def rows_taken(
    difference: IndexDifference, header_of: Callable[[Cid], Awaitable[ShardHeader]]
) -> list[dict[str, Any]]:
    """One entry a contributor: `contributor` (empty where its shard's header is not to be had), `payee`,
    `rows`."""
    names: dict[Address, str] = {}
    for opened in difference.shards:
        with suppress(CommonloreError):  # others made it, and may name what is not to be had
            header = await header_of(opened.shard)
            names[header.payee] = header.contributor
    return [
        {"contributor": names.get(each.payee, ""), "payee": each.payee, "rows": each.row_count}
        for each in difference.contributors
    ]
