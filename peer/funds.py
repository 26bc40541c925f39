"""How much a payer is good for, as this worker last saw it on the chain.

Reading the chain takes a thread and some milliseconds, so a reading is kept for a while; when the chain does
not answer, the last reading stands, and a payer never seen gets the configured credit: inference goes on
without the chain. An owner has one balance, however many session keys spend it: what all of them have
promised this lane counts, and is read from the ledger each time, so that it is the same after a restart.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import trio

from ..contracts.client import ChainClient
from ..protocol.errors import ChainError, Unreachable
from ..protocol.ids import Address
from .clock import Clock
from .ledger import Ledger
from .ledger_rows import Role

log = logging.getLogger("commonlore.peer.funds")
READING_LIFETIME_MS = 30_000
EMPTY_LIFETIME_MS = 1_000
"""A payer that was found empty may have just made its deposit."""
MAX_PAYERS = 10_000


@dataclass(frozen=True, slots=True)
class _Reading:
    """What stands behind one session key: its owner's balance, its own reservation.

    Both stay for a thaw period.
    """

    owner: Address
    balance: int
    reserved: int
    redeemed: int
    seen_ms: int

    def promised(self, vouched: int) -> int:
        """What was vouched and not redeemed."""
        return max(0, vouched - self.redeemed)


class Funds:
    """The escrow behind payers of one lane. Without a chain client, everybody has the configured credit.

    Call `recall` at the start, and `keep` after each ask.
    """

    def __init__(
        self, chain: ChainClient | None, lane: Address, credit_limit: int, clock: Clock, ledger: Ledger
    ) -> None:
        self._chain = chain
        self._lane = lane
        self._credit_limit = credit_limit
        self._clock = clock
        self._ledger = ledger
        self._readings: dict[Address, _Reading] = {}
        self._keys: dict[Address, set[Address]] = {}
        """By owner, the session keys that have vouched something: each of them paid, so they are few."""

    async def recall(self, owners: Mapping[Address, Address]) -> None:
        """Find out who has vouched something in this lane; `owners` by session key, as far as known."""
        for channel in await self._ledger.channels(Role.WORKER):
            owner = owners.get(channel.payer)
            if channel.lane == self._lane and channel.cumulative and owner is not None:
                self._keys.setdefault(owner, set()).add(channel.payer)

    async def keep(self, payer: Address, owner: Address) -> None:
        """An ask of this key has ended: what it vouched counts against its owner from now on."""
        if self._chain is not None and await self._vouched(payer):
            self._keys.setdefault(owner, set()).add(payer)

    async def limit(self, payer: Address, owner: Address) -> int:
        """Token units that `payer` may still owe: its escrow less what its owner's keys have vouched and is
        not redeemed, at most the configured credit. Nothing, where the chain knows another owner."""
        reading = await self._reading(payer, owner)
        if reading is None:
            return self._credit_limit
        if reading.owner != owner:
            return 0
        free = reading.balance
        for key in {payer, *self._keys.get(owner, ())}:
            other = await self._reading(key, owner)
            if other is not None:
                free -= max(0, other.promised(await self._vouched(key)) - other.reserved)
        own = max(0, reading.reserved - reading.promised(await self._vouched(payer)))
        return min(self._credit_limit, own + max(0, free))

    async def _vouched(self, payer: Address) -> int:
        """What a key has vouched in this lane, cumulative."""
        return (await self._ledger.channel(Role.WORKER, payer, self._lane)).cumulative

    async def _reading(self, payer: Address, owner: Address) -> _Reading | None:
        known = self._readings.get(payer)
        now = self._clock.now_ms()
        if self._chain is None or (known is not None and now - known.seen_ms < _lifetime(known)):
            return known
        try:
            fresh = await trio.to_thread.run_sync(self._look, self._chain, payer, owner)
        except (Unreachable, ChainError) as error:
            log.warning("the chain does not answer (%s); going by what was last seen", error)
            return known
        if len(self._readings) >= MAX_PAYERS:
            self._readings.clear()
        self._readings[payer] = fresh
        return fresh

    def _look(self, chain: ChainClient, payer: Address, owner: Address) -> _Reading:
        """One reading. A session key that is not bound on the chain yet (its binding is bound with its first
        redemption) stands on its owner's balance; one that was revoked on nothing."""
        now = self._clock.now_ms()
        state = chain.escrow_of(payer, self._lane)
        if state.owner is None:
            return _Reading(owner, chain.owner_balance(owner).dependable, 0, 0, now)
        if state.revoked:
            return _Reading(state.owner, 0, 0, state.redeemed, now)
        return _Reading(
            state.owner, state.balance.dependable, state.reservation.dependable, state.redeemed, now
        )


def _lifetime(reading: _Reading) -> int:
    return READING_LIFETIME_MS if reading.balance or reading.reserved else EMPTY_LIFETIME_MS
