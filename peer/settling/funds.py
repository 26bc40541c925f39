"""How much a payer is good for, as this worker last saw it on the chain.

When the chain does not answer, its last reading stands, and a payer never seen gets the configured credit:
inference goes on without the chain (`escrow_readings`). An owner has one balance, however many session keys
spend it: what all of them have promised this lane counts, and is read from the ledger each time, so that it
is the same after a restart.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...protocol.ids import Address
from ..store.ledger import Ledger
from ..store.ledger_rows import Role
from .escrow_readings import EscrowReadings


class Funds:
    """The escrow behind payers of one lane. Without readings of a chain, everybody has the configured credit.

    Call `recall` at the start, `run` in the node's nursery, and `keep` after each ask.
    """

    def __init__(
        self, readings: EscrowReadings | None, lane: Address, credit_limit: int, ledger: Ledger
    ) -> None:
        self._chain = readings
        self._lane = lane
        self._credit_limit = credit_limit
        self._ledger = ledger
        self._keys: dict[Address, set[Address]] = {}
        """By owner, the session keys that have vouched something: each of them paid, so they are few."""

    async def recall(self, owners: Mapping[Address, Address]) -> None:
        """Find out who has vouched something in this lane; `owners` by session key, as far as known."""
        for channel in await self._ledger.channels(Role.WORKER):
            owner = owners.get(channel.payer)
            if channel.lane == self._lane and channel.cumulative and owner is not None:
                self._keys.setdefault(owner, set()).add(channel.payer)

    async def run(self) -> None:
        """Read the chain as asks need it; for ever."""
        if self._chain is not None:
            await self._chain.run()

    async def keep(self, payer: Address, owner: Address) -> None:
        """An ask of this key has ended: what it vouched counts against its owner from now on."""
        if self._chain is not None and await self._vouched(payer):
            self._keys.setdefault(owner, set()).add(payer)

    async def limit(self, payer: Address, owner: Address) -> int:
        """Token units that `payer` may still owe: its escrow less what its owner's keys have vouched and is
        not redeemed, at most the configured credit. Nothing, where the chain knows another owner."""
        if self._chain is None:
            return self._credit_limit
        readings = await self._chain.of({payer, *self._keys.get(owner, ())}, owner)
        reading = readings.get(payer)
        if reading is None:
            return self._credit_limit
        if reading.owner != owner:
            return 0
        free = reading.balance
        for key, other in readings.items():
            free -= max(0, other.promised(await self._vouched(key)) - other.reserved)
        own = max(0, reading.reserved - reading.promised(await self._vouched(payer)))
        return min(self._credit_limit, own + max(0, free))

    async def _vouched(self, payer: Address) -> int:
        """What a key has vouched in this lane, cumulative."""
        return (await self._ledger.channel(Role.WORKER, payer, self._lane)).cumulative
