"""One order to withdraw: sign, forget, publish a version without, and say what learnt from it.

Rules of this file: before anything is forgotten the indexes of adapters that learnt from the rows are
fetched, so that the rows can be taken out of them here and the differences be named by the very version that
names the withdrawals: whoever hears of the one finds the other, and needs neither the author nor the chain
for it. An index that cannot be had in time holds nothing up: it is told, and its author takes the rows out of
its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import trio

from ...protocol.content.manifests import DatanetManifest, Shard, ShardHeader
from ...protocol.content.withdrawals import Withdrawal
from ...protocol.encoding.codec import decode
from ...protocol.errors import CommonloreError
from ...protocol.ids import CHUNK_SIZE, Cid
from ...protocol.signing.envelope import Sealed
from ...protocol.signing.keys import PeerKey
from ..node import Node
from .rows_taken import rows_taken
from .shards import DatanetPlan, publish_datanet, record_of
from .withdrawing import Tainted, shards_of, sign_withdrawal

INDEX_PATIENCE_S = 60.0
"""How long an index may take to come, before rows go without a difference of it."""
ALL_PATIENCE_S = 300.0
"""The same of all: anybody announces adapters that learnt from anything."""


async def withdraw(node: Node, name: str, contributor: PeerKey, reason: str) -> Mapping[str, Any]:
    """Withdraw all shards that a contributor's key signed in the current version of a Datanet.

    Raises NotFound where it signed none, Unreachable, ProtocolError.
    """
    record = await node.catalog.patiently(partial(node.catalog.datanet_record, name))
    manifest = await node.catalog.datanet(record.datanet)
    taken = await shards_of(node.content, manifest, contributor.public)
    adapters = {found.adapter: found for cid in taken for found in await node.withdrawals.tainted(cid)}
    deadline = trio.current_time() + ALL_PATIENCE_S
    indexes = {found.adapter: await _index_here(node, found, deadline) for found in adapters.values()}
    now_ms = node.clock.now_ms()
    sealed = [sign_withdrawal(contributor, name, cid, reason, now_ms) for cid in taken]
    forgotten = sum([await node.withdrawals.take(each) for each in sealed])
    told = [await _told(node, found, *indexes[found.adapter]) for found in adapters.values()]
    version = await _publish_without(node, record.datanet, manifest, sealed, told)
    return {
        "datanet": name,
        "shards": list(taken),
        "withdrawals": [await node.content.put(each.raw) for each in sealed],
        "version": version,
        "unindexed_rows": forgotten,
        "tainted": told,
    }


async def _index_here(node: Node, found: Tainted, deadline: float) -> tuple[Cid | None, str]:
    """The index of an adapter, fetched whole; why it is not here, where it is not."""
    index: Cid | None = None
    try:
        with trio.fail_at(min(deadline, trio.current_time() + INDEX_PATIENCE_S)):
            manifest = await node.catalog.adapter(found.adapter)
            record = node.catalog.record_of(found.adapter, manifest.author)
            if record is None or record.index is None:
                return None, "it has no gradient index"
            index = record.index
            await node.differences.fetch(index)
    except trio.TooSlowError:
        return index, f"its index did not come within {INDEX_PATIENCE_S:g} s"
    except CommonloreError as error:
        return index, f"its index cannot be had: {error}"
    return index, ""


async def _told(node: Node, found: Tainted, index: Cid | None, missing: str) -> Mapping[str, Any]:
    """What was taken out of an adapter's index, from whom."""
    taken = await node.differences.latest(index) if index is not None else None
    told: dict[str, Any] = {**asdict(found), "index": index, "difference": None, "rows_taken": []}
    if taken is None:
        return told | {"without_difference": missing or "its index holds none of these rows"}
    cid, difference = taken

    async def header_of(shard: Cid) -> ShardHeader:
        return decode(Shard, await node.content.get(shard, CHUNK_SIZE)).header

    rows = await rows_taken(difference, header_of)
    return told | {"difference": cid, "rows_taken": rows, "without_difference": ""}


async def _publish_without(
    node: Node,
    datanet: Cid,
    manifest: DatanetManifest,
    sealed: Sequence[Sealed[Withdrawal]],
    told: Sequence[Mapping[str, Any]],
) -> int | None:
    """The number of the version without these shards, which may have none left; None where another peer
    curates the Datanet."""
    taken = {each.record.shard for each in sealed}
    left = [cid for cid in manifest.shards if cid not in taken]
    if manifest.curator != node.keys.peer.public:
        return None
    shards = [(cid, decode(Shard, await node.content.get(cid, CHUNK_SIZE))) for cid in left]
    plan = DatanetPlan(manifest.name, manifest.purpose, manifest.kind, manifest.licence)
    known = (await node.differences.known()).by_index
    outdated = {cid for each in told if each["difference"] for cid in known.get(each["index"], ())}
    differences = [each["difference"] for each in told if each["difference"]]
    listed = await node.withdrawals.list_with(manifest, sealed, (differences, outdated))
    cid, made = await publish_datanet(node.content, node.keys.peer, plan, shards, (datanet, manifest), listed)
    await node.announce(record_of(cid, made, await node.next_seq(), node.clock.now_ms()))
    return made.version
