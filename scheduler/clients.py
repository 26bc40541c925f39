"""What a client may have under way and may spend: the budgets of those on whose behalf this peer asks.

Rules of this file: an ask's limit is reserved when it comes and turned into what it cost when it ends, so a
client's spent and reserved token units never exceed its budget within one window; windows are fixed spans of
time, alike for everybody. An ask that ends after its window counts in the one in which it ends.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from ..protocol.inference.messages import RefusalCode

MAX_CLIENTS = 10_000


@dataclass(frozen=True, slots=True)
class Budget:
    """For each client: so many asks at once, so many token units in a window. 0 is no limit."""

    asks: int = 0
    spend: int = 0
    window_ms: int = 3_600_000


@dataclass(slots=True)
class _Account:
    window: int
    asks: int = 0
    reserved: int = 0
    spent: int = 0


class Clients:
    """The accounts of clients with something under way, and of those that spent lately."""

    __slots__ = ("_accounts", "budget")

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    def __len__(self) -> int:
        return len(self._accounts)

    def spent(self, now_ms: int, client: str) -> tuple[int, int]:
        """Token units spent in this window, and reserved by asks under way."""
        account = self._accounts.get(client)
        if account is None:
            return 0, 0
        self._turn(now_ms, account)
        return account.spent, account.reserved

    def admit(self, now_ms: int, client: str, max_price: int) -> tuple[str, str] | None:
        """Count one more ask, until `settle`; or why it is too much, for programs (as `RefusalCode`) and for
        people."""
        budget = self.budget
        account = self._account(now_ms, client)
        if budget.asks and account.asks >= budget.asks:
            return RefusalCode.BUSY, (
                f"{account.asks} asks of this client are under way, as many as it may have: wait for one"
            )
        left = budget.spend - account.spent - account.reserved
        if budget.spend and max_price > left:
            return RefusalCode.CREDIT, (
                f"this ask may cost {max_price} token units, and {max(0, left)} of {budget.spend} are left "
                f"to this client for {self._left_s(now_ms)} s: ask for less, or later"
            )
        account.asks += 1
        account.reserved += max_price
        return None

    def settle(self, now_ms: int, client: str, max_price: int, spent: int) -> None:
        """An admitted ask ended and cost so much, at most what was reserved."""
        account = self._account(now_ms, client)
        account.asks -= 1
        account.reserved -= max_price
        account.spent += min(spent, max_price)

    def _account(self, now_ms: int, client: str) -> _Account:
        account = self._accounts.get(client)
        if account is None:
            account = self._accounts[client] = _Account(now_ms // self.budget.window_ms)
            self._make_room(now_ms)
        self._accounts.move_to_end(client)
        self._turn(now_ms, account)
        return account

    def _turn(self, now_ms: int, account: _Account) -> None:
        window = now_ms // self.budget.window_ms
        if window > account.window:
            account.window, account.spent = window, 0

    def _left_s(self, now_ms: int) -> int:
        return -(-(self.budget.window_ms - now_ms % self.budget.window_ms) // 1000)

    def _make_room(self, now_ms: int) -> None:
        """Forget accounts that say nothing any more; those that bind somebody stay, however many."""
        if len(self._accounts) <= MAX_CLIENTS:
            return
        window = now_ms // self.budget.window_ms
        for client in [*self._accounts][: MAX_CLIENTS // 2]:
            account = self._accounts[client]
            if not account.asks and (account.window < window or not account.spent):
                del self._accounts[client]
