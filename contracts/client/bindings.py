"""Which peer's key a session key or lane was bound with, from the Escrow's events."""

from __future__ import annotations

from ...protocol.ids import Address, checksummed
from ..calling.events import EventLog, EventReader
from .calls import ContractCalls


class Bindings:
    """Bindings as they were recorded. Blocking and thread-safe, like the client it belongs to."""

    def __init__(self, client: ContractCalls) -> None:
        reader = EventReader(client.endpoint, "Escrow", client.deployment.escrow, ("Bound",))
        self._log = EventLog(reader, client.deployment.block)

    def peer_key(self, session_key: Address) -> bytes | None:
        """The Ed25519 key (32 bytes) that the latest binding names. The chain does not check its signature:
        it is the word of the account behind the session key."""
        text = checksummed(session_key)
        named = [e.arguments["ed25519Key"] for e in self._log.all() if e.arguments["sessionKey"] == text]
        return bytes(named[-1]) if named else None
