"""What a node keeps of what others say: sealed adapter and Datanet records, attribution statements, and
requests seen.

None of it is money, so its writes need not be on the disk at once: lost, it comes again by gossip or by
asking.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

import trio

from ...protocol.encoding.codec import decode, encode, tag_of
from ...protocol.encoding.shapes import Record
from ...protocol.errors import RemoteProtocolError
from ...protocol.gossip.adverts import AdapterRecord, DatanetRecord, MeasurementRecord
from ...protocol.ids import Address, Cid, RequestId
from ...protocol.receipts.records import AttributionStatement
from ...protocol.signing.bindings import SignedBinding
from ...protocol.signing.envelope import Sealed, open_sealed
from ..catalog import Named, name_of
from .database import Database, Transaction

NAMED: tuple[type[Named], ...] = (AdapterRecord, DatanetRecord, MeasurementRecord)
MAX_STATEMENT_BYTES = 1 << 20
MAX_STATEMENTS = 16
"""Attributors whose statements on one receipt are kept."""
REMEMBERED_BINDINGS = 4_096
"""Session keys of which is known, without asking the disk, until when their kept bindings last."""


@dataclass(frozen=True, slots=True)
class RecordHead:
    """One name and its newest record, short enough to list: what two peers compare."""

    kind: str
    name: str
    seq: int
    digest: bytes
    """sha2-256 of the sealed record."""


class RequestState(StrEnum):
    """running: admitted, not yet ended (or the node died); done: its receipts are recorded; failed: it may
    come again.
    """

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Records:
    """Sealed records by name, statements by receipt."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._bound_until: dict[Address, int] = {}

    async def put(self, sealed: Sealed[Named]) -> bool:
        """Keep a record. False when the name is another key's, or the same key has announced a newer one."""
        record = sealed.record
        kind, name = _kind_of(type(record)), name_of(record)

        async def work(sql: Transaction) -> bool:
            query = "SELECT public_key, seq FROM records WHERE kind = ? AND name = ?"
            row = await sql.one(query, kind, name)
            if row is not None and (row[0] != sealed.public_key or row[1] >= record.seq):
                return False
            await sql.insert(
                "records",
                replace=True,
                kind=kind,
                name=name,
                public_key=sealed.public_key,
                seq=record.seq,
                sealed=sealed.raw,
            )
            return True

        return await self._database.write(work, durable=False)

    async def heads(self, kind: type[Named], *, after: str = "", limit: int = 1000) -> tuple[RecordHead, ...]:
        """Heads in the order of their names, from above `after` on."""
        query = "SELECT name, seq, sealed FROM records WHERE kind = ? AND name > ? ORDER BY name LIMIT ?"
        tag = _kind_of(kind)
        rows = await self._database.read(query, tag, after, limit)
        return tuple(
            RecordHead(tag, name, seq, hashlib.sha256(sealed).digest()) for name, seq, sealed in rows
        )

    async def named(self, kind: type[Named], name: str) -> Sealed[Named] | None:
        """The newest record of a name."""
        query = "SELECT sealed FROM records WHERE kind = ? AND name = ?"
        rows = await self._database.read(query, _kind_of(kind), name)
        return open_sealed(rows[0][0], NAMED) if rows else None

    async def all(self) -> tuple[Sealed[Named], ...]:
        """Every record, by kind and name: how a node that starts fills its catalogue."""
        rows = await self._database.read("SELECT sealed FROM records ORDER BY kind, name")
        # verifying takes 0.1 ms a record: many would hold the node's loop
        return await trio.to_thread.run_sync(lambda: tuple(open_sealed(row[0], NAMED) for row in rows))

    async def put_binding(self, signed: SignedBinding) -> None:
        """Keep a session key's binding (checked by the caller) if it lasts longer than the one kept."""
        binding = signed.binding
        if self._bound_until.get(binding.session_key, -1) >= binding.not_after:
            return  # every ask brings its payer's

        async def work(sql: Transaction) -> None:
            row = await sql.one("SELECT not_after FROM bindings WHERE session_key = ?", binding.session_key)
            if row is None or row[0] < binding.not_after:
                await sql.insert(
                    "bindings",
                    replace=True,
                    session_key=binding.session_key,
                    not_after=binding.not_after,
                    binding=encode(signed),
                )

        await self._database.write(work, durable=False)
        if len(self._bound_until) >= REMEMBERED_BINDINGS:
            self._bound_until.clear()
        self._bound_until[binding.session_key] = binding.not_after

    async def binding(self, session_key: Address) -> SignedBinding | None:
        """The binding of a session key: who a payer's owner is."""
        query = "SELECT binding FROM bindings WHERE session_key = ?"
        rows = await self._database.read(query, session_key)
        return decode(SignedBinding, rows[0][0]) if rows else None

    async def owners(self) -> dict[Address, Address]:
        """Whose each session key is, by the bindings kept here."""
        rows = await self._database.read("SELECT binding FROM bindings")

        def read() -> dict[Address, Address]:
            bindings = (decode(SignedBinding, row[0]).binding for row in rows)
            return {binding.session_key: binding.owner for binding in bindings}

        return await trio.to_thread.run_sync(read)

    async def put_statement(self, sealed: Sealed[AttributionStatement]) -> None:
        """Keep an attributor's statement on a receipt; its later ones replace it."""
        statement = sealed.record

        async def work(sql: Transaction) -> None:
            query = (
                "SELECT count(*) FROM statements WHERE receipt_hash = ? AND adapter = ? AND attributor <> ?"
            )
            row = await sql.one(query, statement.receipt_hash, statement.adapter, sealed.public_key)
            if row is not None and row[0] >= MAX_STATEMENTS:
                return
            await sql.insert(
                "statements",
                replace=True,
                receipt_hash=statement.receipt_hash,
                adapter=statement.adapter,
                attributor=sealed.public_key,
                sealed=sealed.raw,
            )

        await self._database.write(work)

    async def statements(self, receipt_hash: bytes, adapter: Cid) -> tuple[Sealed[AttributionStatement], ...]:
        """The statements on a receipt's adapter, by attributor."""
        query = "SELECT sealed FROM statements WHERE receipt_hash = ? AND adapter = ? ORDER BY attributor"
        rows = await self._database.read(query, receipt_hash, adapter)
        return tuple(open_sealed(row[0], (AttributionStatement,), MAX_STATEMENT_BYTES) for row in rows)

    async def statements_on(self, receipt_hash: bytes) -> tuple[Sealed[AttributionStatement], ...]:
        """Every statement on a receipt, by adapter and attributor."""
        query = "SELECT sealed FROM statements WHERE receipt_hash = ? ORDER BY adapter, attributor"
        rows = await self._database.read(query, receipt_hash)
        return tuple(open_sealed(row[0], (AttributionStatement,), MAX_STATEMENT_BYTES) for row in rows)


class Requests:
    """Which requests were admitted, until their deadlines: an id is served once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def admit(
        self, payer: Address, request_id: RequestId, request_hash: bytes, deadline: int
    ) -> RequestState | None:
        """None: new, and now running. Otherwise the state it is in; one that failed becomes running again.

        `deadline` in Unix seconds. Raises RemoteProtocolError when the id came before with another request.
        """

        async def work(sql: Transaction) -> RequestState | None:
            query = "SELECT request_hash, state FROM requests WHERE payer = ? AND request_id = ?"
            row = await sql.one(query, payer, request_id)
            if row is None:
                await sql.insert(
                    "requests",
                    payer=payer,
                    request_id=request_id,
                    request_hash=request_hash,
                    deadline=deadline,
                    state=RequestState.RUNNING,
                )
                return None
            if row[0] != request_hash:
                raise RemoteProtocolError(f"request id {request_id.hex()} came before, with another request")
            if row[1] == RequestState.FAILED:
                await _set_state(sql, payer, request_id, RequestState.RUNNING)
            return RequestState(row[1])

        return await self._database.write(work, durable=False)

    async def finish(self, payer: Address, request_id: RequestId, state: RequestState) -> None:
        """A request ended."""

        async def work(sql: Transaction) -> None:
            await _set_state(sql, payer, request_id, state)

        await self._database.write(work, durable=False)

    async def fail_running(self) -> int:
        """At a start: what ran when the node stopped may come again. Returns how many."""

        async def work(sql: Transaction) -> int:
            return await sql.run("UPDATE requests SET state = 'failed' WHERE state = 'running'")

        return await self._database.write(work, durable=False)

    async def forget(self, now: int) -> int:
        """Drop what can be asked no more at `now` (Unix seconds). Returns how many."""

        async def work(sql: Transaction) -> int:
            return await sql.run("DELETE FROM requests WHERE deadline < ?", now)

        return await self._database.write(work, durable=False)


async def _set_state(sql: Transaction, payer: Address, request_id: RequestId, state: RequestState) -> None:
    query = "UPDATE requests SET state = ? WHERE payer = ? AND request_id = ?"
    await sql.run(query, state, payer, request_id)


def _kind_of(cls: type[Record]) -> str:
    return tag_of(cls)
