"""Money of a channel that is counted for two receipts, in one commitment or in two: see `frauds`.

A voucher that pays `price` and reaches `cumulative` stands for the units from the one to the other of its
channel. Only the places of these are remembered; an earlier epoch's trees are asked for when they are needed.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..ids import Address
from .commitments import EpochTrees
from .frauds import Fraud, FraudKind, Posted
from .openings import open_voucher


@dataclass(frozen=True, slots=True, order=True)
class _Spent:
    """Units `start` (counted from 0) up to below `end` of a channel, and the receipt that they paid."""

    start: int
    end: int
    epoch: int
    index: int


class ChannelHistory:
    """What one lane's commitments have counted, in the order of their epochs."""

    def __init__(self, trees_of: Callable[[int], EpochTrees]) -> None:
        """`trees_of(epoch)` gives an earlier epoch's trees again."""
        self._trees_of = trees_of
        self._spent: dict[Address, list[_Spent]] = {}

    def forget_from(self, epoch: int) -> None:
        """Commitments from this epoch on were taken back."""
        for payer, spent in self._spent.items():
            self._spent[payer] = [one for one in spent if one.epoch < epoch]

    def remember(self, lane: Address, trees: EpochTrees) -> None:
        """Remembers an epoch that cannot be challenged any more."""
        list(self._count(lane, trees))

    def take(self, posted: Posted) -> Iterator[Fraud]:
        """Remembers an epoch's receipts; gives those that count what was counted already."""
        for own, other in list(self._count(posted.facts.lane, posted.current)):
            yield self._overlap(posted, own, other)

    def _count(self, lane: Address, trees: EpochTrees) -> Iterator[tuple[_Spent, _Spent]]:
        for index, settled in enumerate(trees.receipts):
            voucher = settled.voucher
            if settled.receipt.lane != lane or voucher.cumulative < voucher.price:
                continue
            start = voucher.cumulative - voucher.price
            own = _Spent(start, voucher.cumulative, trees.commitment.epoch, index)
            spent = self._spent.setdefault(voucher.payer, [])
            other = _overlapping(spent, own)
            if other is not None:
                yield own, other
            insort(spent, own)

    def _overlap(self, posted: Posted, own: _Spent, other: _Spent) -> Fraud:
        trees, domain = posted.current, posted.facts.domain
        earlier = trees if other.epoch == own.epoch else self._trees_of(other.epoch)
        said = f"receipt {own.index} is paid by money that paid receipt {other.index} of epoch {other.epoch}"
        return posted.fraud(
            FraudKind.OVERLAP, said, trees.commitment, open_voucher(domain, trees, own.index),
            earlier.commitment, open_voucher(domain, earlier, other.index),
        )  # fmt: skip


def _overlapping(spent: list[_Spent], own: _Spent) -> _Spent | None:
    """One that shares units with `own`. Those that are remembered may overlap each other only where a fraud
    was found already."""
    place = bisect_left(spent, own)
    near = spent[max(0, place - 1) : place + 1]
    return next((one for one in near if one.start < own.end and own.start < one.end), None)
