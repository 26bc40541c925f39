"""What the chain last said of payers.

Rules of this file: nobody waits for the chain longer than `PATIENCE_S`, and nobody at all while it does not
answer: then the last reading stands, and one task goes on asking until the chain is back. The chain is asked
one question at a time, so an endpoint that hangs holds one thread.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import trio

from ...contracts.client.chain import ChainClient
from ...protocol.errors import ChainError, Unreachable
from ...protocol.ids import Address
from ..clock import Clock

log = logging.getLogger("commonlore.peer.settling.escrow_readings")
PATIENCE_S = 2.0
"""How long an ask is held up for a reading that is due: a far endpoint answers well within."""
RETRY_S = 2.0
EMPTY_LIFETIME_MS = 1_000
"""A payer that was found empty may have just made its deposit."""
MAX_PAYERS = 10_000
MAX_WANTED = 1_000


@dataclass(frozen=True, slots=True)
class Reading:
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


@dataclass(slots=True)
class _Wanted:
    owner: Address
    read: trio.Event = field(default_factory=trio.Event)
    reading: Reading | None = None


class EscrowReadings:
    """Readings of one lane's payers, each kept for `lifetime_ms`. Run `run` in the node's nursery."""

    def __init__(self, chain: ChainClient, lane: Address, clock: Clock, lifetime_ms: int) -> None:
        self._chain = chain
        self._lane = lane
        self._clock = clock
        self._lifetime_ms = lifetime_ms
        self._readings: dict[Address, Reading] = {}
        self._wanted: OrderedDict[Address, _Wanted] = OrderedDict()
        self._work = trio.Event()
        self._answers = True
        """Whether the chain answered when it was asked last."""

    async def of(self, payers: Iterable[Address], owner: Address) -> Mapping[Address, Reading]:
        """What is known of these session keys of one owner, read anew where that is due and the chain
        answers. A key that was never read is missing."""
        keys = tuple(payers)
        known = {key: self._readings[key] for key in keys if key in self._readings}
        due = {key: self._want(key, owner) for key in keys if self._is_due(key)}
        if due and self._answers:
            with trio.move_on_after(PATIENCE_S) as limit:
                for wanted in due.values():
                    await wanted.read.wait()
            if limit.cancelled_caught:
                self._go_on_without(f"not within {PATIENCE_S:g} s")
        return known | {key: each.reading for key, each in due.items() if each.reading is not None}

    async def run(self) -> None:
        """Read what is wanted, the oldest wish first; for ever."""
        while True:
            while self._wanted:
                payer, wanted = next(iter(self._wanted.items()))
                if not await self._read(payer, wanted.owner):
                    await trio.sleep(RETRY_S)
            self._work = trio.Event()
            await self._work.wait()

    def _is_due(self, payer: Address) -> bool:
        known = self._readings.get(payer)
        if known is None:
            return True
        lifetime_ms = self._lifetime_ms
        if not known.balance and not known.reserved:
            lifetime_ms = min(lifetime_ms, EMPTY_LIFETIME_MS)
        return self._clock.now_ms() - known.seen_ms >= lifetime_ms

    def _want(self, payer: Address, owner: Address) -> _Wanted:
        wanted = self._wanted.get(payer)
        if wanted is None:
            wanted = self._wanted[payer] = _Wanted(owner)
            self._work.set()
            while len(self._wanted) > MAX_WANTED:
                self._wanted.popitem(last=True)[1].read.set()
        return wanted

    async def _read(self, payer: Address, owner: Address) -> bool:
        """Whether the chain answered; then nobody waits for this reading any more."""
        try:
            fresh = await trio.to_thread.run_sync(self._look, payer, owner, abandon_on_cancel=True)
        except Unreachable as error:
            self._go_on_without(str(error))
            return False
        except ChainError as error:  # an answer, if no good one: the next question may have a better one
            self._go_on_without(str(error))
            self._done(payer)
            return False
        self._answers = True
        if len(self._readings) >= MAX_PAYERS:
            self._readings.clear()
        self._readings[payer] = fresh
        self._done(payer, fresh)
        return True

    def _done(self, payer: Address, reading: Reading | None = None) -> None:
        wanted = self._wanted.pop(payer, None)
        if wanted is not None:
            wanted.reading = reading
            wanted.read.set()

    def _go_on_without(self, reason: str) -> None:
        """The chain does not answer: let those go on that wait for it."""
        if self._answers:
            log.warning("the chain does not answer (%s); going by what was last seen", reason)
        self._answers = False
        for wanted in self._wanted.values():
            wanted.read.set()

    def _look(self, payer: Address, owner: Address) -> Reading:
        """One reading. A session key that is not bound on the chain yet (its binding is bound with its first
        redemption) stands on its owner's balance; one that was revoked on nothing."""
        now = self._clock.now_ms()
        state = self._chain.escrow_of(payer, self._lane)
        if state.owner is None:
            return Reading(owner, self._chain.owner_balance(owner).dependable, 0, 0, now)
        if state.revoked:
            return Reading(state.owner, 0, 0, state.redeemed, now)
        return Reading(
            state.owner, state.balance.dependable, state.reservation.dependable, state.redeemed, now
        )
