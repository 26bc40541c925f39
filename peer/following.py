"""What a node does with what others announce: workers for routing, adapters and Datanets for the catalog, the
workers of bases that it had not heard of."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from ..protocol.errors import CommonloreError
from ..protocol.gossip.adverts import AdapterRecord, Advert, DatanetRecord, WorkerAd
from ..protocol.ids import Cid, PeerId
from ..protocol.signing.envelope import Sealed
from .attribution.difference_records import hear_difference
from .catalog import Named

if TYPE_CHECKING:
    from .node import Node

log = logging.getLogger("commonlore.peer.following")
MAX_BASES_FOLLOWED = 32


async def follow(node: Node, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Take in what is announced: workers for routing, adapters and Datanets for the catalog. The network is
    open before this listens, so what came until then is taken in first: nobody tells it again."""
    with node.gossip.listen() as heard:
        task_status.started()
        for sealed in node.gossip.records.since(0, node.clock.now_ms()):
            await _take_in(node, sealed)
        async for sealed in heard:
            await _take_in(node, sealed)


async def _take_in(node: Node, sealed: Sealed[Advert]) -> None:
    try:
        await learn(node, sealed)
    except CommonloreError as error:
        log.warning("an announcement by %s was not taken: %s", sealed.peer_id, error)


async def learn(node: Node, sealed: Sealed[Advert]) -> None:
    """Take in one announcement. Raises CommonloreError where it cannot be."""
    record = sealed.record
    if isinstance(record, WorkerAd):
        node.asker.see(sealed)  # type: ignore[arg-type]  # Sealed is covariant; narrowed by its record
    elif isinstance(record, Named):
        if node.catalog.learn(sealed):  # type: ignore[arg-type]
            await node.store.records.put(sealed)  # type: ignore[arg-type]
            if isinstance(record, DatanetRecord):
                node.nursery.start_soon(node.withdrawals.keep_following, record.datanet)
            hear_difference(node, sealed)  # type: ignore[arg-type]
        if isinstance(record, AdapterRecord) and len(node.bases) < MAX_BASES_FOLLOWED:
            node.bases.add(record.base)
            await node.gossip.follow(record.base)
    elif record.base is not None and sealed.peer_id != node.host.peer_id:
        await _hear_of(node, sealed.peer_id, record.base)


async def _hear_of(node: Node, worker: PeerId, base: Cid) -> None:
    """Follow the workers of a base that is new here, and take what this one can tell of them at once."""
    if base in node.bases or len(node.bases) >= MAX_BASES_FOLLOWED:
        return
    node.bases.add(base)
    await node.gossip.follow(base)
    node.nursery.start_soon(node.discovery.catch_up, worker)
