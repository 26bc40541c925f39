"""How far a receipt has come on the chain, which knows more than the store of whoever asked or answered.

Rules of this file: nothing is said that the chain does not show. Claims are counted by lane, not by receipt:
a receipt counts as claimed when everything that its lane's final epochs earned is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

import trio

from ...contracts.calling.records import LaneState, PostedCommitment
from ...contracts.client.chain import ChainClient
from ...protocol.errors import ChainError, MissingDependency, Unreachable
from ...protocol.ids import Address
from ..store.ledger_rows import StoredReceipt
from .claiming import on_chain


class Progress(StrEnum):
    """redeemed: its voucher was paid into the lane's pot; posted: an epoch on chain holds it; claimable: what
    it earned can be claimed; claimed: nothing of its lane is left to claim.
    """

    REDEEMED = "redeemed"
    POSTED = "posted"
    CLAIMABLE = "claimable"
    CLAIMED = "claimed"


@dataclass(frozen=True, slots=True)
class _Lane:
    state: LaneState
    posted: tuple[PostedCommitment, ...]
    now: int

    def holding(self, stored: StoredReceipt) -> int | None:
        """The place in `posted` of the epoch that holds a redeemed receipt; None while none surely does."""
        wanted = stored.receipt.epoch if stored.commitment is None else stored.commitment
        places = (n for n, each in enumerate(self.posted) if each.commitment.epoch >= wanted)
        place = next(places, None)
        is_last = place == len(self.posted) - 1
        if stored.commitment is None and is_last and self.state.pot > self.state.committed:
            return None  # what was redeemed last may be it
        return place

    def progress(self, stored: StoredReceipt) -> Progress:
        place = self.holding(stored)
        if place is None:
            return Progress.REDEEMED
        later = self.posted[place + 1 :]  # an epoch's earnings are in the commitments after it
        if not any(each.final_at <= self.now for each in later):
            return Progress.POSTED
        final = [each.commitment for each in later if each.final_at <= self.now]
        is_claimed = self.state.claimed >= final[-1].cumulative_total
        return Progress.CLAIMED if is_claimed else Progress.CLAIMABLE


async def progress_within(
    patience_s: float, client: ChainClient | None, receipts: Sequence[StoredReceipt]
) -> Mapping[int, Progress]:
    """What `read_progress` finds; nothing without a chain, or where it does not answer in time."""
    found: Mapping[int, Progress] = {}
    if client is not None and receipts:
        with trio.move_on_after(patience_s), suppress(ChainError, Unreachable, MissingDependency):
            found = await on_chain(read_progress, client, receipts)
    return found


def read_progress(client: ChainClient, receipts: Sequence[StoredReceipt]) -> Mapping[int, Progress]:
    """By number, the receipts that the chain has paid. Blocks. Raises ChainError, Unreachable."""
    lanes: dict[Address, _Lane] = {}
    redeemed: dict[tuple[Address, Address], int] = {}
    found: dict[int, Progress] = {}
    for stored in receipts:
        if stored.voucher is None:
            continue
        payer, lane = stored.receipt.payer, stored.receipt.lane
        if (payer, lane) not in redeemed:
            redeemed[payer, lane] = client.redeemed(payer, lane)
        if redeemed[payer, lane] < stored.voucher.voucher.cumulative:
            continue
        if lane not in lanes:
            lanes[lane] = _Lane(client.lane_state(lane), client.commitments(lane), client.chain_time())
        found[stored.number] = lanes[lane].progress(stored)
    return found
