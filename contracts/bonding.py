"""What this account can lose, and what it has: bonds by role."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

from ..protocol.ids import Address, checksummed
from .records import FundState
from .transactions import Sent

if TYPE_CHECKING:
    from .client import ChainClient


class BondRole(IntEnum):
    """What a bond answers for."""

    WORKER = 0
    POSTER = 1
    CONTRIBUTOR = 2
    AUDITOR = 3
    ATTRIBUTOR = 4


class BondsClient:
    """Bonds through a chain client. Blocking and thread-safe, like the client it belongs to."""

    def __init__(self, client: ChainClient) -> None:
        self._client = client

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

    def _read(self, name: str, *arguments: Any) -> Any:
        return self._client.read("Bonds", name, *arguments)

    def _send(self, name: str, *arguments: Any) -> Sent:
        return self._client.send(name, self._client.function("Bonds", name, *arguments))
