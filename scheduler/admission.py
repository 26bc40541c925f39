"""The worker's side of scheduling: how much work a payer may have under way before it pays.

Rule of this file: for each payer, Σ max price in flight + Σ unvouched ≤ its limit. So many asks may run at
once, without waiting for each other's vouchers, and whoever vanishes has cost this worker at most the limit.
What is unvouched (receipts sent whose voucher never came) and what the limit is (escrow, reservation, a new
payer's bounded credit) are facts that the caller reads from its ledger and the chain. What was delivered and
will never be paid is a debt: it counts until it is forgiven, or whoever takes a step and leaves would be
served for nothing for ever.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager

from ..protocol.errors import Refused
from ..protocol.ids import Address
from ..protocol.inference.messages import RefusalCode

DEBT_LIFETIME_MS = 3_600_000
"""How long it takes until a debt is forgiven, evenly."""
MAX_DEBTORS = 10_000


class Debts:
    """What payers took and left without paying, in token units. Times are Unix milliseconds."""

    def __init__(self) -> None:
        self._debts: OrderedDict[Address, tuple[int, int]] = OrderedDict()

    def add(self, payer: Address, amount: int, now_ms: int) -> None:
        """A payer left with this much unpaid."""
        if amount > 0:
            self._debts[payer] = (self.of(payer, now_ms) + amount, now_ms)
            self._debts.move_to_end(payer)
            if len(self._debts) > MAX_DEBTORS:
                self._debts.popitem(last=False)

    def of(self, payer: Address, now_ms: int) -> int:
        """What is not forgiven yet."""
        amount, since_ms = self._debts.get(payer, (0, now_ms))
        left_ms = max(0, since_ms + DEBT_LIFETIME_MS - now_ms)
        return -(-amount * min(left_ms, DEBT_LIFETIME_MS) // DEBT_LIFETIME_MS)


class Admission:
    """What every payer has in flight here, in token units. Payers with nothing in flight cost nothing."""

    def __init__(self) -> None:
        self._in_flight: dict[Address, int] = {}

    def in_flight(self, payer: Address) -> int:
        """Σ max price of the payer's asks under way."""
        return self._in_flight.get(payer, 0)

    def admit(self, payer: Address, max_price: int, unvouched: int, limit: int) -> None:
        """Count one more ask, until `release`. Raises Refused (credit) where it would exceed the limit."""
        owed = self.in_flight(payer) + unvouched
        if owed + max_price > limit:
            raise Refused(
                RefusalCode.CREDIT,
                f"this ask may cost {max_price} token units, {owed} are owed or under way and the limit is "
                f"{limit}: pay what is owed, deposit more, or ask for less",
            )
        self._in_flight[payer] = self.in_flight(payer) + max_price

    def release(self, payer: Address, max_price: int) -> None:
        """An admitted ask has ended, however it did."""
        rest = self.in_flight(payer) - max_price
        if rest > 0:
            self._in_flight[payer] = rest
        else:
            self._in_flight.pop(payer, None)

    @contextmanager
    def hold(self, payer: Address, max_price: int, unvouched: int, limit: int) -> Generator[None]:
        """`admit` now and `release` at the end of the block. Raises Refused (credit)."""
        self.admit(payer, max_price, unvouched, limit)
        try:
            yield
        finally:
            self.release(payer, max_price)
