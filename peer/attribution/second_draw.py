"""What the chain says of a second attributor's draw: who had bonded at a block, and the beacon of a
commitment."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...contracts.client.bonding import BondRole
from ...protocol.attribution.opinions import check_listed
from ...protocol.errors import ChainError, RemoteProtocolError, Unreachable
from ...protocol.ids import Address
from ...protocol.receipts.records import Receipt
from ...protocol.receipts.seconding import BondedList, list_bonded
from ..settling.claiming import on_chain

if TYPE_CHECKING:
    from ...contracts.client.chain import ChainClient

log = logging.getLogger("commonlore.peer.second_draw")
_STEADY_READINGS = 4


@dataclass(frozen=True, slots=True)
class DrawFacts:
    """Who had bonded up to a list's block, whose bond has stood since; the beacons of the commitments that a
    receipt may be in, by its epoch; and whether the list is of before that."""

    ever: Collection[Address]
    still: Collection[Address]
    beacons: Collection[bytes]
    is_stale: bool = False


async def bonded_list(client: ChainClient | None) -> BondedList | None:
    """The accounts that have bonded as attributors, with as much as the chain's own draws ask for; None where
    no chain tells."""
    if client is None:
        return None
    try:
        for _ in range(_STEADY_READINGS):
            block = await on_chain(client.beacon.head)
            bonded = await on_chain(client.bonds.bonded, BondRole.ATTRIBUTOR)
            if block == await on_chain(client.beacon.head):
                least = await on_chain(_least, client)
                return list_bonded(block, (each.account for each in bonded if each.standing >= least))
    except (ChainError, Unreachable) as error:
        log.info("the chain does not say who has bonded: %s", error)
    return None


def _least(client: ChainClient) -> int:
    """The bond that counts: whoever could divide one among many accounts would draw all lots. Blocking."""
    return max(client.draws.terms.minimum_bond, 1)


async def drawn_facts(client: ChainClient, receipt: Receipt, listed: BondedList) -> DrawFacts:
    """Raises Unreachable, ChainError."""
    least = await on_chain(_least, client)
    ever, still = await on_chain(client.bonds.bonded_by, BondRole.ATTRIBUTOR, listed.block, least)
    beacons = await on_chain(client.postings.beacons_from, receipt.lane, receipt.epoch)
    after, terms = await on_chain(client.beacon.superseded_at, listed.block), client.deployment
    oldest = terms.genesis + (receipt.epoch - 1) * terms.epoch_length
    return DrawFacts(ever, still, beacons, after is not None and after < oldest)


async def facts_of(client: ChainClient | None, receipt: Receipt, listed: BondedList) -> DrawFacts | None:
    """None where there is no chain to ask. Raises Unreachable, ChainError."""
    return None if client is None else await drawn_facts(client, receipt, listed)


def check_facts(facts: DrawFacts, beacon: bytes, listed: BondedList) -> None:
    """Raises RemoteProtocolError unless a draw's list is the chain's, and its beacon, if it has one, that of
    a commitment which the receipt may be in."""
    if facts.is_stale:
        raise RemoteProtocolError(
            f"the second attributor was drawn from who had bonded at block {listed.block}, long before"
        )
    check_listed(listed, facts.ever, facts.still)
    if beacon and beacon not in facts.beacons:
        raise RemoteProtocolError("the second attributor was drawn by another beacon than its commitment's")
