"""What the chain says of a lane, as far as judging its commitments needs it. Blocking."""

from __future__ import annotations

from ...contracts.calling.records import PostedCommitment
from ...contracts.client.chain import ChainClient
from ...protocol.ids import ZERO_ADDRESS, Address, checksummed, to_address
from ...protocol.settlement.commitments import EpochTrees
from ...protocol.settlement.frauds import LaneFacts, RegisteredAdapter


def read_facts(
    client: ChainClient, posted: PostedCommitment, previous: EpochTrees | None, current: EpochTrees
) -> LaneFacts:
    """The facts for one commitment of a lane. Raises Unreachable, ChainError."""
    terms, lane = client.deployment, posted.lane
    payers = {settled.receipt.payer for settled in current.receipts}
    return LaneFacts(
        domain=terms.domain,
        lane=lane,
        platform=terms.platform,
        work_pool=terms.work_pool,
        workers=_workers(client, posted),
        genesis=terms.genesis,
        epoch_length=terms.epoch_length,
        redeemed={payer: client.redeemed(payer, lane) for payer in payers},
        adapters=_registered(client, previous, current),
        is_registry_required=bool(client.read("LineProofs", "registryRequired")),
    )


def _workers(client: ChainClient, posted: PostedCommitment) -> frozenset[Address]:
    """Who may earn the worker's share: the lane or its owner; of what a successor posted, the successor."""
    epoch = posted.commitment.epoch
    *_, poster, succeeded = client.read("Settlement", "posted", checksummed(posted.lane), epoch)
    if succeeded:
        return frozenset({to_address(poster)})
    return frozenset({posted.lane, client.owner_of(posted.lane) or posted.lane} - {ZERO_ADDRESS})


def _registered(
    client: ChainClient, previous: EpochTrees | None, current: EpochTrees
) -> dict[bytes, RegisteredAdapter]:
    """The pools whose adapters the Registry knows, without their lineages: see `lineages`."""
    lines = (*current.lines, *(previous.lines if previous else ()))
    found: dict[bytes, RegisteredAdapter] = {}
    for pool in {line.pool for line in lines if any(line.adapter)}:
        entry = client.registry.adapter(pool)
        if entry is not None:
            found[pool] = RegisteredAdapter(entry.split, entry.registered_at)
    return found
