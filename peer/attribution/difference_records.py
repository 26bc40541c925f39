"""Differences beside the indexes that they are of: announced by the index's author, heard by everybody else.

Rules of this file: the version of a Datanet names the differences that its curator could make. Where it had
not the index, the author's node still takes the rows out of its own, and says so in the adapter's record.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ...protocol.gossip.adverts import AdapterRecord
from ...protocol.ids import Cid
from ...protocol.signing.envelope import Sealed

if TYPE_CHECKING:
    from ..catalog import Named
    from ..node import Node


async def announce_difference(node: Node, index: Cid, difference: Cid) -> None:
    """Name a difference in the records of this peer's adapters that have this index."""
    for record in node.catalog.announced_by(node.keys.peer.public):
        if isinstance(record, AdapterRecord) and record.index == index:
            stamp = await node.next_seq(), node.clock.now_ms()
            await node.announce(replace(record, difference=difference, seq=stamp[0], issued_ms=stamp[1]))


def hear_difference(node: Node, sealed: Sealed[Named]) -> None:
    """Remember, soon, what an adapter's record says of its index."""
    record = sealed.record
    if not isinstance(record, AdapterRecord) or record.index is None or record.difference is None:
        return
    told = record.index, record.difference, sealed.public_key
    node.nursery.start_soon(node.differences.hear_author, *told)
