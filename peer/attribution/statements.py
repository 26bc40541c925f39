"""Attribution statements between peers: a worker gives them out once they are made, a client fetches and
checks them.

Rules of this file: a statement counts only with one under the seal of the worker that served the receipt,
which hands out beside it what it had others state; the credits shown for a receipt are computed here from the
statements, by the same arithmetic that settlement uses.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import trio

from ...protocol.attribution.pools import Basis
from ...protocol.content.compositions import MAX_ADAPTERS
from ...protocol.encoding.codec import decode_value, encode_value
from ...protocol.errors import (
    CommonloreError,
    InvalidSignature,
    NotFound,
    RemoteProtocolError,
    Unreachable,
)
from ...protocol.ids import Address, Cid, PeerId, ReceiptId, peer_id_of
from ...protocol.receipts.parts import attributed
from ...protocol.receipts.records import AttributionStatement, Credit
from ...protocol.signing.bindings import PeerBinding
from ...protocol.signing.envelope import Sealed, open_sealed
from ..catalog import Catalog
from ..settling.crediting import Crediting, NetworkAccounts
from ..store.ledger import Ledger
from ..store.ledger_rows import StoredReceipt
from ..store.records import MAX_STATEMENT_BYTES, MAX_STATEMENTS, Records
from ..wire.rpc import Call, EndOfCall, Rpc

log = logging.getLogger("commonlore.peer.attribution.statements")
METHOD = "statement"
PATIENCE_S = 60.0
"""How long a worker lets a caller wait for a statement that is being made."""
MARGIN_S = 15.0
"""How much longer the caller waits."""


@dataclass(frozen=True, slots=True)
class ReceiptCredits:
    """Who earns what from one receipt; `method` names how the contributors' weights were found."""

    receipt: StoredReceipt
    credits: tuple[Credit, ...]
    method: str
    names: dict[Address, str]


@dataclass(frozen=True, slots=True)
class KnownStatements:
    """What this home knows of its receipts' credits, without asking anybody."""

    records: Records
    ledger: Ledger
    catalog: Catalog
    accounts: NetworkAccounts

    async def credits(self, receipt_id: ReceiptId) -> ReceiptCredits:
        """As `Statements.credits`, by the prior weights where no statement is here."""
        return await self.divided(*await self.receipt(receipt_id))

    async def receipt(self, receipt_id: ReceiptId) -> tuple[StoredReceipt, PeerBinding]:
        """A receipt by its id or hash, and its worker. Raises NotFound."""
        stored = await self.ledger.receipt(receipt_id)
        if stored is None:
            raise NotFound(
                f"no receipt {receipt_id.hex()} in this home; list them with: commonlore receipt list"
            )
        binding = await self.records.binding(stored.receipt.lane)
        if binding is None:
            raise NotFound(f"the worker of lane 0x{stored.receipt.lane.hex()} is not known to this home")
        return stored, binding.binding

    async def credits_of(self, stored: StoredReceipt, worker: PeerBinding) -> tuple[Credit, ...]:
        """Who earns what from it, as far as is known here."""
        return (await self.divided(stored, worker)).credits

    async def divided(self, stored: StoredReceipt, worker: PeerBinding) -> ReceiptCredits:
        """Its credits. Raises what reading the adapter's manifest raises."""
        crediting = Crediting(self.accounts, self.records, self.catalog, worker.ed25519_key, seconds=True)
        credits = await crediting.credits_of(stored, worker.owner)
        return ReceiptCredits(stored, credits, await self._method(crediting, stored), {})

    async def _method(self, crediting: Crediting, stored: StoredReceipt) -> str:
        """How the contributors' weights were found, of several adapters each once: a statement's method, or
        why it does not count.
        """
        found: list[str] = []
        for part in attributed(stored.receipt):
            if part.adapter is not None:
                found.append(await self._method_of(crediting, stored.receipt_hash, part.adapter))
        return ", ".join(dict.fromkeys(found)) or "none"

    async def _method_of(self, crediting: Crediting, receipt_hash: bytes, adapter: Cid) -> str:
        judged = await crediting.judged(await self.catalog.adapter(adapter), adapter, receipt_hash)
        if judged.basis in (Basis.PRIOR, Basis.DISPUTED, Basis.CHALLENGED):
            return judged.basis.value
        return (await crediting.counting(receipt_hash, adapter)).statements[0].record.method


class Statements:
    """Both sides of `statement`."""

    def __init__(
        self, rpc: Rpc, records: Records, ledger: Ledger, catalog: Catalog, accounts: NetworkAccounts
    ) -> None:
        self._rpc = rpc
        self._records = records
        self._known = KnownStatements(records, ledger, catalog, accounts)
        self._in_the_making: dict[bytes, trio.Event] = {}
        rpc.serve(METHOD, self._serve)

    # ---- the worker's side

    def expect(self, receipt_hash: bytes) -> None:
        """A statement on this receipt is being made: callers wait for it."""
        self._in_the_making[receipt_hash] = trio.Event()

    def is_expected(self, receipt_hash: bytes) -> bool:
        """Whether somebody may be waiting for it."""
        return receipt_hash in self._in_the_making

    def drop(self, receipt_hash: bytes) -> None:
        """Nothing more is to be waited for: it is there, or will not come."""
        event = self._in_the_making.pop(receipt_hash, None)
        if event is not None:
            event.set()

    async def keep(self, sealed: Sealed[AttributionStatement]) -> None:
        """A statement of this worker is ready; others on the receipt's other adapters may follow (`drop`)."""
        await self._records.put_statement(sealed)

    async def _serve(self, call: Call) -> None:
        wanted = decode_value(await call.receive(), 64)
        if not isinstance(wanted, bytes) or len(wanted) != 32:
            raise RemoteProtocolError(f"{METHOD} takes a receipt's hash, 32 bytes")
        if (event := self._in_the_making.get(wanted)) is not None:
            with trio.move_on_after(PATIENCE_S):
                await event.wait()
        for sealed in await self._records.statements_on(wanted):
            await call.send(sealed.raw)

    # ---- the client's side

    async def fetch(self, peer: PeerId, receipt_hash: bytes) -> bool:
        """Ask the worker for the statements on a receipt, its own and those it had others make, and keep
        them.

        False when it has none of its own (prior weights apply then).

        Raises Unreachable, RemoteProtocolError, InvalidSignature.
        """
        try:
            with trio.fail_after(PATIENCE_S + MARGIN_S):
                given = await self._all(peer, receipt_hash)
        except trio.TooSlowError:
            raise Unreachable(f"peer {peer} does not say whether it has a statement") from None
        if given and peer not in {sealed.peer_id for sealed in given}:
            raise InvalidSignature(f"peer {peer} gave out a statement that {given[0].peer_id} sealed")
        for sealed in given:
            if sealed.record.receipt_hash != receipt_hash:
                raise RemoteProtocolError(f"peer {peer} gave out a statement on another receipt")
            await self._records.put_statement(sealed)
        return bool(given)

    async def _all(self, peer: PeerId, receipt_hash: bytes) -> list[Sealed[AttributionStatement]]:
        given: list[Sealed[AttributionStatement]] = []
        async with self._rpc.open(peer, METHOD) as call:
            await call.send(encode_value(receipt_hash))
            await call.end()
            while len(given) < MAX_STATEMENTS * MAX_ADAPTERS:
                try:
                    raw = await call.receive()
                except EndOfCall:
                    break
                given.append(open_sealed(raw, (AttributionStatement,), MAX_STATEMENT_BYTES))
        return given

    @property
    def known(self) -> KnownStatements:
        """What this home knows, without asking anybody."""
        return self._known

    async def credits(self, receipt_id: ReceiptId) -> ReceiptCredits:
        """The credits of a receipt of this home by its id or hash, asking its worker where nothing is known
        yet.

        Raises NotFound, and what reading the adapter's manifest raises.
        """
        stored, worker = await self._known.receipt(receipt_id)
        peer = peer_id_of(worker.ed25519_key)
        if await self._lacks_some(stored, peer):
            await self._fetch_quietly(peer, stored.receipt_hash)
        return await self._known.divided(stored, worker)

    async def _lacks_some(self, stored: StoredReceipt, worker: PeerId) -> bool:
        """Whether its worker may have stated more than is here: it scores one adapter after the other."""
        found = await self._records.statements_on(stored.receipt_hash)
        stated = {sealed.record.adapter for sealed in found if sealed.peer_id == worker}
        return any(entry.adapter not in stated for entry in stored.receipt.adapters)

    async def _fetch_quietly(self, peer: PeerId, receipt_hash: bytes) -> None:
        """Without an answer, the prior weights apply: exactly what settlement would do."""
        try:
            await self.fetch(peer, receipt_hash)
        except CommonloreError as error:
            log.info("no statement on %s: %s", receipt_hash.hex(), error)
