"""Who posts for a lane: its own poster, one that it appointed, or a successor where it owed too long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...protocol.ids import ZERO_ADDRESS, Address, checksummed, to_address
from ..calling.transactions import Sent
from .calls import ContractCalls


@dataclass(frozen=True, slots=True)
class Poster:
    """Whose bond stands behind a lane's pot (None before its first money), and whether it took the lane
    over."""

    account: Address | None
    has_succeeded: bool


class PostersClient:
    """Posters through a chain client. Blocking and thread-safe, like the client it belongs to."""

    def __init__(self, client: ContractCalls) -> None:
        self._client = client

    def of(self, lane: Address) -> Poster:
        """A lane's poster."""
        fields: Any = self._client.read("Settlement", "laneOf", checksummed(lane))
        account = to_address(fields[8])
        return Poster(None if account == ZERO_ADDRESS else account, bool(fields[11]))

    def can_succeed(self, lane: Address) -> bool:
        """Whether this account may take a lane over now."""
        account = checksummed(self._client.address)
        return bool(self._client.read("Settlement", "canSucceed", checksummed(lane), account))

    def succeed(self, lane: Address) -> Sent:
        """Takes a lane over that has owed a commitment for too long."""
        return self._send("succeed", checksummed(lane))

    def appoint(self, lane: Address, poster: Address) -> Sent:
        """Asks an account to post for this account's lane; itself, to take it back."""
        return self._send("appoint", checksummed(lane), checksummed(poster))

    def _send(self, name: str, *arguments: Any) -> Sent:
        return self._client.send(name, self._client.function("Settlement", name, *arguments))
