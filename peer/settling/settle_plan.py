"""The decisions of settlement, without I/O: which receipts an epoch may hold, and which vouchers to redeem
for it.

Rules of this file:

- Of a channel only a beginning can be settled, by seq: up to the first receipt of a later epoch, the first
  whose credits are not known yet, or a gap in the cumulative amounts. A voucher is paid whole, so nothing
  behind those can be paid without them.
- A receipt without a voucher is never here: `Ledger.uncommitted` gives none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from ...contracts.calling.records import LaneState, PaidClaim
from ...protocol.errors import ChainError
from ...protocol.ids import Address
from ...protocol.receipts.records import Credit, SignedVoucher
from ...protocol.settlement.commitments import Commitment
from ...protocol.settlement.settled import SettledReceipt
from ..store.epochs import CreditedReceipt
from ..store.ledger_rows import StoredReceipt

VOUCHERS_OFFERED = 4
"""Of a channel's vouchers that its escrow seems to cover, the highest so many are offered: the balance may
be shared.
"""


@dataclass(frozen=True, slots=True)
class Owed:
    """A paid receipt with its voucher and its credits."""

    stored: StoredReceipt
    voucher: SignedVoucher
    authors: tuple[Address, ...]
    credits: tuple[Credit, ...]

    @property
    def cumulative(self) -> int:
        """What the channel had promised with this voucher."""
        return self.voucher.voucher.cumulative

    @property
    def settled(self) -> SettledReceipt:
        """As a commitment holds it."""
        signed, voucher = self.stored.signed, self.voucher
        return SettledReceipt(
            signed.receipt, signed.signature, voucher.voucher, voucher.signature, self.authors, self.credits
        )

    @property
    def credited(self) -> CreditedReceipt:
        """As the store keeps it."""
        return self.stored.receipt_hash, self.credits


@dataclass(frozen=True, slots=True)
class Waiting:
    """Money that cannot be settled now: whose, and why. `payer` is None when it is about the whole lane."""

    payer: Address | None
    reason: str


@dataclass(slots=True)
class SettleReport:
    """What one round did: `chain_time` in Unix seconds, amounts in token units."""

    chain_time: int
    redeemed: int = 0
    posted: list[Commitment] = field(default_factory=list)
    transactions: list[str] = field(default_factory=list)
    claimed: list[PaidClaim] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)

    @property
    def is_idle(self) -> bool:
        """Whether there was nothing to send."""
        return not self.transactions and not self.claimed


def by_payer(receipts: Iterable[StoredReceipt]) -> dict[Address, list[StoredReceipt]]:
    """Receipts as `Ledger.uncommitted` orders them, cut into channels."""
    return {payer: list(group) for payer, group in groupby(receipts, key=lambda r: r.receipt.payer)}


def committable(channel: Sequence[StoredReceipt], epoch: int) -> list[StoredReceipt]:
    """The beginning of a channel's uncommitted receipts that a commitment of `epoch` may hold."""
    taken: list[StoredReceipt] = []
    reached: int | None = None
    for stored in channel:
        voucher = stored.voucher.voucher if stored.voucher else None
        if voucher is None or stored.receipt.epoch > epoch:
            break
        if reached is not None and voucher.cumulative - voucher.price != reached:
            break
        reached = voucher.cumulative
        taken.append(stored)
    return taken


def offered(channel: Sequence[Owed], redeemed: int, available: int) -> list[SignedVoucher]:
    """The vouchers worth sending for a channel of which `redeemed` is paid and `available` lies in escrow."""
    covered = [owed.voucher for owed in channel if redeemed < owed.cumulative <= redeemed + available]
    return covered[-VOUCHERS_OFFERED:]


def paid(channel: Sequence[Owed], redeemed: int) -> list[Owed]:
    """The receipts of a channel that the chain has paid."""
    return [owed for owed in channel if owed.cumulative <= redeemed]


def latest_postable(chain_time: int, genesis: int, epoch_length: int, grace: int) -> int:
    """The latest epoch that ended at least `grace` seconds ago; negative when none has."""
    return (chain_time - grace - genesis) // epoch_length - 1


def check_same_chain(lane: LaneState, last: Commitment | None) -> None:
    """Raises ChainError where the chain has committed something else for this lane than this store has
    posted.
    """
    known = 0 if last is None else last.cumulative_total + last.receipt_sum
    if lane.committed < known:
        raise ChainError(
            f"the chain knows {lane.committed} of the {known} units that this lane has committed; "
            "is it another chain? give each chain its own COMMONLORE_HOME"
        )
    if lane.committed > known:
        raise ChainError(
            f"this lane has committed {lane.committed} units on the chain, {known} of them known here; "
            "restore this home's latest store, or use a new session key"
        )


def is_postable_still(lane: LaneState, commitment: Commitment) -> bool:
    """Whether a prepared commitment still is what the lane's pot asks for."""
    return (
        lane.next_epoch <= commitment.epoch
        and lane.latest_epoch <= commitment.epoch
        and lane.pot - lane.committed == commitment.receipt_sum
        and lane.committed == commitment.cumulative_total
    )


def total_price(owed: Iterable[Owed]) -> int:
    """What these receipts cost together."""
    return sum(one.stored.receipt.price for one in owed)
