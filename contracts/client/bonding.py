"""What this account can lose, and what it has: bonds by role; and who else has one."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from ...protocol.ids import Address, checksummed, to_address
from ..calling.events import EventLog, EventReader
from ..calling.records import ChainEvent, FundState
from ..calling.transactions import Sent
from .calls import ContractCalls


class BondRole(IntEnum):
    """What a bond answers for."""

    WORKER = 0
    POSTER = 1
    CONTRIBUTOR = 2
    AUDITOR = 3
    ATTRIBUTOR = 4


@dataclass(frozen=True, slots=True)
class Bonded:
    """An account with a bond in a role: what of it counts, and since when (chain time) it has been this one:
    it is drawn in rounds that begin later. A bond that was added to is one of that day."""

    account: Address
    standing: int
    since: int


class BondsClient:
    """Bonds through a chain client. Blocking and thread-safe, like the client it belongs to."""

    def __init__(self, client: ContractCalls) -> None:
        self._client = client
        names = ("Bonded", "BondThawing", "BondWithdrawn", "BondSlashed")
        reader = EventReader(client.endpoint, "Bonds", client.deployment.bonds, names)
        self._log = EventLog(reader, client.deployment.block)
        self._reading = threading.Lock()
        self._known: dict[tuple[Address, int], tuple[ChainEvent, Bonded]] = {}

    def bonded(self, role: BondRole) -> tuple[Bonded, ...]:
        """Everybody with a standing bond in a role, by account: whom `checking.drawn` draws from.

        Only accounts whose bond changed since the last reading are asked for anew. Raises Unreachable,
        ChainError.
        """
        with self._reading:
            last = {event.arguments["account"]: event for event in self._log.all() if _is_of(event, role)}
            found = [self._current(to_address(text), role, event) for text, event in last.items()]
        return tuple(sorted((each for each in found if each.standing), key=lambda each: each.account))

    def bonded_by(self, role: BondRole, block: int, least: int = 1) -> tuple[set[Address], set[Address]]:
        """Who had bonded in a role up to a block, whatever came of it; and of these whose bond stands and has
        not changed since. Whose has not and is below `least` is in neither. Raises Unreachable,
        ChainError."""
        standing = {each.account: each.standing for each in self.bonded(role)}
        with self._reading:
            events = [event for event in self._log.all() if _is_of(event, role)]
        last = {to_address(event.arguments["account"]): event.block for event in events}
        ever = {
            to_address(event.arguments["account"])
            for event in events
            if event.name == "Bonded" and event.block <= block
        }
        same = {account: standing.get(account, 0) for account in ever if last[account] <= block}
        small = {account for account, amount in same.items() if 0 < amount < least}
        return ever - small, {account for account, amount in same.items() if amount >= least}

    def _current(self, account: Address, role: BondRole, event: ChainEvent) -> Bonded:
        known = self._known.get((account, role))
        if known is None or known[0] != event:
            known = (event, Bonded(account, self.standing(account, role), self.since(account, role)))
            self._known[account, role] = known
        return known[1]

    def bond(self, role: BondRole, amount: int) -> Sent:
        """Adds to this account's bond in a role; approves as needed."""
        self._client.approve(self._client.deployment.bonds, amount)
        return self._send("bond", int(role), amount)

    def thaw(self, role: BondRole, amount: int) -> Sent:
        """Gives notice that `amount` of this account's bond shall leave; it stops counting at once."""
        return self._send("thaw", int(role), amount)

    def withdraw(self, role: BondRole) -> Sent:
        """Takes out what has thawed."""
        return self._send("withdraw", int(role))

    def of(self, account: Address, role: BondRole) -> FundState:
        """An account's bond in a role."""
        return FundState(*self._read("bondOf", checksummed(account), int(role)))

    def standing(self, account: Address, role: BondRole) -> int:
        """What of a bond counts."""
        return int(self._read("standing", checksummed(account), int(role)))

    def since(self, account: Address, role: BondRole) -> int:
        """When a bond was last added to (chain time)."""
        return int(self._read("since", checksummed(account), int(role)))

    def is_frozen(self, account: Address, role: BondRole) -> bool:
        """Whether nothing of a bond may leave, as something is being decided that it answers for."""
        return bool(self._read("frozen", checksummed(account), int(role)))

    def _read(self, name: str, *arguments: Any) -> Any:
        return self._client.read("Bonds", name, *arguments)

    def _send(self, name: str, *arguments: Any) -> Sent:
        return self._client.send(name, self._client.function("Bonds", name, *arguments))


def _is_of(event: ChainEvent, role: BondRole) -> bool:
    return int(event.arguments["role"]) == role
