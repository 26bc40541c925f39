"""Receipts as people look at them: found by number or the beginning of an id, with how far each has come and
who earns from it.

The same for a running node and for a home in which none runs: see `peer.closed_home`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ...protocol.errors import CommonloreError, NotFound
from ...protocol.ids import Address
from ...protocol.signing.eip712 import Domain
from ..home import Home
from ..store.ledger_rows import StoredReceipt
from ..store.receipt_search import HASH_DIGITS, ReceiptName
from . import views
from .errors import InvalidRequest
from .lineage import Lineage, Named
from .node import StatementsView, StoreView


class Bookkeeper(Protocol):
    """What is known of receipts beyond the store."""

    async def progress(self, receipts: Sequence[StoredReceipt]) -> Mapping[int, str]:
        """By number, how far receipts have come on the chain, as far as it is known."""
        ...

    async def accounts(self) -> Mapping[Address, str]:
        """The accounts of this home, with a name for people."""
        ...


class ReceiptSource(Named, Protocol):
    """Where receipts are kept."""

    @property
    def home(self) -> Home:
        """Whose they are."""
        ...

    @property
    def domain(self) -> Domain:
        """What they are signed under."""
        ...

    @property
    def store(self) -> StoreView:
        """Receipts."""
        ...

    @property
    def statements(self) -> StatementsView:
        """Credits."""
        ...


class Receipts:
    """The receipts of one home."""

    def __init__(self, source: ReceiptSource, books: Bookkeeper) -> None:
        self._source = source
        self._books = books
        self._lineage = Lineage(source)

    async def listed(self, limit: int, before: int | None = None) -> list[dict[str, Any]]:
        """The newest, at most `limit`, from below number `before` on."""
        stored = await self._source.store.ledger.receipts(limit=limit, before=before)
        progress = await self._books.progress(stored)
        return [self._line(receipt, progress) for receipt in stored]

    def _line(self, stored: StoredReceipt, progress: Mapping[int, str]) -> dict[str, Any]:
        shown = views.receipt_view(self._source.domain, stored)
        state = progress.get(stored.number, stored.state.value)
        return {**shown, "state": state, "composition": self._lineage.written(stored.receipt.adapters)}

    async def shown(self, name: str) -> dict[str, Any]:
        """One, with its credits as far as they are known. Raises NotFound, InvalidRequest."""
        stored = await self.find(name)
        try:
            known = await self._source.statements.credits(stored.receipt_id)
            credits = views.credits_view(known, await self._books.accounts())
        except CommonloreError as unknown:
            credits = {"credits": None, "method": None, "note": str(unknown)}
        merged = await self._lineage.merges_among(stored.receipt.adapters)
        return {**self._line(stored, await self._books.progress([stored])), "merged": merged, **credits}

    async def find(self, text: str) -> StoredReceipt:
        """The one that this names. Raises NotFound, InvalidRequest."""
        name = ReceiptName.parse(text)
        if name is None:
            raise InvalidRequest(
                f"not a receipt's number, id or hash: {text[:80]!r}; expected a number, or up to "
                f"{HASH_DIGITS} hexadecimal digits"
            )
        found = await self._source.store.ledger.named(name)
        if not found:
            raise NotFound(
                f"no receipt {text} in {self._source.home.path}; list them with: commonlore receipt list"
            )
        if len(found) > 1:
            ids = ", ".join(views.id_of(one.signed) for one in found)
            raise InvalidRequest(f"several receipts begin with {text}: {ids}; give more digits")
        return found[0]
