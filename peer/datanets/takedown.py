"""One order to withdraw: sign, forget, publish a version without, and say what learnt from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ...protocol.content.manifests import DatanetManifest, Shard
from ...protocol.content.withdrawals import Withdrawal
from ...protocol.encoding.codec import decode
from ...protocol.ids import CHUNK_SIZE, Cid
from ...protocol.signing.envelope import Sealed
from ...protocol.signing.keys import PeerKey
from ..node import Node
from .shards import DatanetPlan, publish_datanet, record_of
from .withdrawing import shards_of, sign_withdrawal


async def withdraw(node: Node, name: str, contributor: PeerKey, reason: str) -> Mapping[str, Any]:
    """Withdraw all shards that a contributor's key signed in the current version of a Datanet.

    Raises NotFound where it signed none, Unreachable, ProtocolError.
    """
    record = node.catalog.datanet_record(name)
    manifest = await node.catalog.datanet(record.datanet)
    taken = await shards_of(node.content, manifest, contributor.public)
    adapters = {found.adapter: found for cid in taken for found in await node.withdrawals.tainted(cid)}
    now_ms = node.clock.now_ms()
    sealed = [sign_withdrawal(contributor, name, cid, reason, now_ms) for cid in taken]
    forgotten = sum([await node.withdrawals.take(each) for each in sealed])
    version = await _publish_without(node, record.datanet, manifest, sealed)
    return {
        "datanet": name,
        "shards": list(taken),
        "withdrawals": [await node.content.put(each.raw) for each in sealed],
        "version": version,
        "unindexed_rows": forgotten,
        "tainted": [asdict(found) for found in adapters.values()],
    }


async def _publish_without(
    node: Node, datanet: Cid, manifest: DatanetManifest, sealed: Sequence[Sealed[Withdrawal]]
) -> int | None:
    """The number of the version without these shards; None where another peer curates the Datanet, or where
    nothing would be left of it."""
    taken = {each.record.shard for each in sealed}
    left = [cid for cid in manifest.shards if cid not in taken]
    if manifest.curator != node.keys.peer.public or not left:
        return None
    shards = [(cid, decode(Shard, await node.content.get(cid, CHUNK_SIZE))) for cid in left]
    plan = DatanetPlan(manifest.name, manifest.purpose, manifest.kind, manifest.licence)
    previous, listed = (datanet, manifest), await node.withdrawals.list_with(manifest, sealed)
    cid, made = await publish_datanet(node.content, node.keys.peer, plan, shards, previous, listed)
    await node.announce(record_of(cid, made, await node.next_seq(), node.clock.now_ms()))
    return made.version
