"""What the node without a network is made of: connections never made, receipts in memory, one worker."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...protocol.errors import ConfigError
from ...protocol.ids import PeerId, ReceiptId
from ..asking.attempt_parts import Offer
from ..store.ledger_rows import StoredReceipt
from ..store.receipt_search import ReceiptName


@dataclass(slots=True)
class FakeHost:
    """Connections that were never made."""

    peer_id: PeerId
    addresses: tuple[str, ...] = ("/ip4/127.0.0.1/tcp/4001",)
    dialled: list[str] = field(default_factory=list)

    def connected(self) -> set[PeerId]:
        """Whoever was dialled, under this peer's own name."""
        return {self.peer_id} if self.dialled else set()

    async def connect(self, address: str) -> PeerId:
        """Raises ConfigError for what is no multiaddr."""
        if not address.startswith("/"):
            raise ConfigError(f"{address!r} is not a multiaddr; expected /ip4/…/tcp/…/p2p/…")
        self.dialled.append(address)
        return self.peer_id


@dataclass(slots=True)
class FakeLedger:
    """Receipts in memory."""

    stored: list[StoredReceipt] = field(default_factory=list)

    async def receipt(self, receipt_id: ReceiptId) -> StoredReceipt | None:
        """By id or hash."""
        known = (one for one in self.stored if receipt_id in (one.receipt_id, one.receipt_hash))
        return next(known, None)

    async def named(self, name: ReceiptName) -> tuple[StoredReceipt, ...]:
        """By number, else by the beginning of an id or hash."""
        numbered = tuple(one for one in self.stored if one.number == name.number)
        if numbered or name.digits is None:
            return numbered
        hashes = [(one, (one.receipt_id.hex(), one.receipt_hash.hex())) for one in self.stored]
        return tuple(one for one, names in hashes if any(h.startswith(name.digits) for h in names))

    async def receipts(self, *, before: int | None = None, limit: int = 50) -> tuple[StoredReceipt, ...]:
        """The newest first."""
        older = (one for one in reversed(self.stored) if before is None or one.number < before)
        return tuple(older)[:limit]


@dataclass(slots=True)
class FakeStore:
    """A store that is its ledger."""

    ledger: FakeLedger = field(default_factory=FakeLedger)


class FakeAsker:
    """One worker, which can be taken away."""

    def __init__(self, offer: Offer) -> None:
        self.known: tuple[Offer, ...] = (offer,)

    def offers(self) -> tuple[Offer, ...]:
        """The workers."""
        return self.known
