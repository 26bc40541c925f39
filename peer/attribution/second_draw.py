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
from ...protocol.receipts.seconding import MAX_BONDED, BondedList
from ..settling.claiming import on_chain

if TYPE_CHECKING:
    from ...contracts.client.chain import ChainClient

log = logging.getLogger("commonlore.peer.second_draw")
_STEADY_READINGS = 4


@dataclass(frozen=True, slots=True)
class DrawFacts:
    """Who had bonded up to a list's block, whose bond has stood since; and the beacons of the commitments
    that a receipt may be in, by its epoch."""

    ever: Collection[Address]
    still: Collection[Address]
    beacons: Collection[bytes]


async def bonded_list(client: ChainClient | None) -> BondedList | None:
    """The accounts that have bonded as attributors; None where no chain tells."""
    if client is None:
        return None
    try:
        for _ in range(_STEADY_READINGS):
            block = await on_chain(client.beacon.head)
            bonded = await on_chain(client.bonds.bonded, BondRole.ATTRIBUTOR)
            if block == await on_chain(client.beacon.head):
                return BondedList(block, tuple(sorted(each.account for each in bonded))[:MAX_BONDED])
    except (ChainError, Unreachable) as error:
        log.info("the chain does not say who has bonded: %s", error)
    return None


async def drawn_facts(client: ChainClient, receipt: Receipt, listed: BondedList) -> DrawFacts:
    """Raises Unreachable, ChainError."""
    ever, still = await on_chain(client.bonds.bonded_by, BondRole.ATTRIBUTOR, listed.block)
    beacons = await on_chain(client.postings.beacons_from, receipt.lane, receipt.epoch)
    return DrawFacts(ever, still, beacons)


async def facts_of(client: ChainClient | None, receipt: Receipt, listed: BondedList) -> DrawFacts | None:
    """None where there is no chain to ask. Raises Unreachable, ChainError."""
    return None if client is None else await drawn_facts(client, receipt, listed)


def check_facts(facts: DrawFacts, beacon: bytes, listed: BondedList) -> None:
    """Raises RemoteProtocolError unless a draw's list is the chain's, and its beacon, if it has one, that of
    a commitment which the receipt may be in."""
    check_listed(listed, facts.ever, facts.still)
    if beacon and beacon not in facts.beacons:
        raise RemoteProtocolError("the second attributor was drawn by another beacon than its commitment's")
