"""Receipts and vouchers, as client and as worker: what a node must not forget, written before anything is
sent.

Rules of this file:

- A worker's receipt is recorded before it is sent; a voucher is recorded before the client sends it and
  before the worker acts on it. Both calls return when the record is on the disk.
- In a channel (payer, lane) seqs rise and are never used twice, and a voucher's cumulative amount is the
  channel's plus its price: there are no gaps, or settlement could not say what was paid for. So vouchers
  come in the order of their seqs, and a worker that issues one receipt of a channel at a time needs no
  second try.
- A receipt whose turn has passed, or whose client vanished, is abandoned and issued anew under a higher seq.
  Should its voucher come after all, in time, it counts.
- A client that lost its last vouchers adopts its own signature from the worker. A worker never does: a payer
  could leave a gap that makes everything after it impossible to settle.
- What strangers asked and were told is not kept for ever (`forget_openings`), nor what its contributor took
  back (`forget_prompts_with`); receipts and vouchers are.
- Recording the same thing again changes nothing. Recording something else in its place raises
  ChannelConflict.
"""

from __future__ import annotations

import trio

from ...protocol.encoding.codec import decode
from ...protocol.ids import Address, Cid, ReceiptId, cid_to_bytes
from ...protocol.receipts.records import SignedReceipt, SignedVoucher, Voucher
from . import channel_rows
from .channel_memory import ChannelMemory
from .channel_rows import ABANDON, OF_CHANNEL
from .database import Database, Row, Transaction, Work
from .ledger_rows import COLUMNS, Channel, NewReceipt, Role, StoredReceipt, to_channel, to_receipt
from .receipt_search import ReceiptName, find_receipts, steps_before

_WITHDRAWN = "withdrawn prompt "
"""Before a receipt's hash: the setting that says which shard its prompt was deleted for."""


class Ledger:
    """The receipts and channels of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._remembered = ChannelMemory()

    async def channel(self, role: Role, payer: Address, lane: Address) -> Channel:
        """The channel as it stands on the disk."""
        known = self._remembered.get(role, payer, lane)
        if known is not None:
            return known
        age = self._remembered.age
        query = f"SELECT seq, cumulative, voucher FROM channels WHERE {OF_CHANNEL}"
        rows = await self._database.read(query, role, payer, lane)
        return self._remembered.keep(to_channel(role, payer, lane, rows[0] if rows else None), age)

    async def next_seq(self, role: Role, payer: Address, lane: Address) -> int:
        """The lowest seq above all that this channel has used, paid or not."""
        query = (
            f"SELECT max(seq) FROM (SELECT seq FROM receipts WHERE {OF_CHANNEL} "
            f"UNION ALL SELECT seq FROM channels WHERE {OF_CHANNEL})"
        )
        rows = await self._database.read(query, role, payer, lane, role, payer, lane)
        return 1 + (rows[0][0] or 0)

    async def forget_openings(self, lane: Address, through: int) -> int:
        """Delete what was asked and answered in this lane's receipts of epochs up to `through`, as a worker;
        hashes stay. What is paid and in no commitment yet keeps it. How many receipts that were.
        """
        settled = "(state = 'abandoned' OR commitment <= ?)"
        lost = f"role = 'worker' AND lane = ? AND epoch <= ? AND {settled} AND prompt IS NOT NULL"

        async def work(sql: Transaction) -> int:
            chosen = f"SELECT receipt_hash FROM receipts WHERE {lost}"
            await sql.run(f"DELETE FROM consents WHERE receipt_hash IN ({chosen})", lane, through, through)
            forgotten = f"UPDATE receipts SET prompt = NULL, tokens = x'' WHERE {lost}"
            return await sql.run(forgotten, lane, through, through)

        return await self._database.erase(work)

    async def forget_prompts_with(self, shard: Cid) -> int:
        """Delete every prompt that holds rows of a shard, asked or answered; answers, hashes and receipts
        stay. How many receipts that were."""
        named, holds = cid_to_bytes(shard), "prompt IS NOT NULL AND instr(prompt, ?) > 0"

        async def work(sql: Transaction) -> int:
            chosen = f"SELECT receipt_hash FROM receipts WHERE {holds}"
            await sql.run(
                f"INSERT OR REPLACE INTO settings SELECT '{_WITHDRAWN}' || hex(receipt_hash), ? "
                f"FROM receipts WHERE {holds}",
                named,
                named,
            )
            await sql.run(f"DELETE FROM consents WHERE receipt_hash IN ({chosen})", named)
            return await sql.run(f"UPDATE receipts SET prompt = NULL WHERE {holds}", named)

        return await self._database.erase(work)

    async def prompt_was_withdrawn(self, receipt_hash: bytes) -> bool:
        """Whether a receipt's prompt is missing because it held rows that were withdrawn."""
        name = _WITHDRAWN + receipt_hash.hex().upper()
        return bool(await self._database.read("SELECT 1 FROM settings WHERE name = ?", name))

    async def record_receipt(self, role: Role, new: NewReceipt) -> None:
        """Keep a receipt that waits for its voucher.

        Raises ChannelConflict when its seq has passed or is used.
        """

        async def work(sql: Transaction) -> None:
            await channel_rows.insert_receipt(sql, role, new)

        await self._database.write(work)

    async def record_voucher(
        self, role: Role, signed: SignedVoucher, receipt: NewReceipt | None = None
    ) -> Channel:
        """Keep a voucher with the receipt it pays, and return the channel after it.

        `receipt`: recorded in the same step, as a client does. Raises ChannelConflict when the voucher does
        not continue the channel, or names a receipt that is not recorded as the voucher says.
        """

        async def work(sql: Transaction) -> Channel:
            return await channel_rows.record_voucher(sql, role, signed, receipt)

        return await self._advance(role, signed.voucher, work)

    async def adopt_voucher(self, role: Role, signed: SignedVoucher) -> Channel:
        """Take up a later voucher that the other side shows (the caller checked its signature and its payer).

        A client takes it on its own word, whatever is missing before; a worker only where `record_voucher`
        would. Raises ChannelConflict when it contradicts the channel. Returns the channel after it.
        """

        async def work(sql: Transaction) -> Channel:
            if role is Role.WORKER:
                return await channel_rows.record_voucher(sql, role, signed, None)
            return await channel_rows.adopt_voucher(sql, signed)

        return await self._advance(role, signed.voucher, work)

    async def _advance(self, role: Role, voucher: Voucher, work: Work[Channel]) -> Channel:
        """Write a channel's next state, and remember it."""
        try:
            channel = await self._database.write(work)
        except BaseException:
            self._remembered.forget(role, voucher.payer, voucher.lane)
            raise
        return self._remembered.keep(channel)

    async def vouchers_after(
        self, payer: Address, lane: Address, seq: int, limit: int
    ) -> tuple[SignedVoucher, ...]:
        """What a client has signed in a channel after `seq`, lowest first: what a worker may have lost."""
        query = (
            f"SELECT voucher FROM receipts WHERE {OF_CHANNEL} AND seq > ? AND state = 'vouchered' "
            "ORDER BY seq LIMIT ?"
        )
        rows = await self._database.read(query, Role.CLIENT, payer, lane, seq, limit)
        return tuple(decode(SignedVoucher, row[0]) for row in rows)

    async def abandon_receipt(self, role: Role, receipt_hash: bytes) -> None:
        """Stop waiting for a receipt's voucher: its seq is free again.

        One that has its voucher stays as it is.
        """

        async def work(sql: Transaction) -> None:
            query = f"{ABANDON} WHERE role = ? AND receipt_hash = ? AND state = 'issued'"
            await sql.run(query, role, receipt_hash)

        await self._database.write(work)

    async def abandon_all(self, role: Role) -> int:
        """At a start: whatever waited for a voucher when the node died. Returns how many."""

        async def work(sql: Transaction) -> int:
            return await sql.run(f"{ABANDON} WHERE role = ? AND state = 'issued'", role)

        return await self._database.write(work)

    async def unvouchered(self, payer: Address, lane: Address) -> int:
        """Token units that a payer owes this worker: receipts that wait for their vouchers."""
        query = f"SELECT signed FROM receipts WHERE {OF_CHANNEL} AND state = 'issued'"
        rows = await self._database.read(query, Role.WORKER, payer, lane)
        return sum(decode(SignedReceipt, row[0]).receipt.price for row in rows)

    async def receipt(self, receipt_id: ReceiptId) -> StoredReceipt | None:
        """The receipt of this id, or of this receipt hash; if there are several, the paid one, then the
        newest.
        """
        query = (
            f"SELECT {COLUMNS} FROM receipts WHERE receipt_id = ?1 OR receipt_hash = ?1 "
            "ORDER BY state = 'vouchered' DESC, number DESC LIMIT 1"
        )
        rows = await self._database.read(query, receipt_id)
        return to_receipt(rows[0]) if rows else None

    async def named(self, name: ReceiptName) -> tuple[StoredReceipt, ...]:
        """The receipts that this may name: see `find_receipts`."""
        return await find_receipts(self._database, name)

    async def steps_before(self, stored: StoredReceipt) -> tuple[StoredReceipt, ...]:
        """The earlier receipts of an answer, in order: see `steps_before`."""
        return await steps_before(self._database, stored)

    async def receipts(self, *, before: int | None = None, limit: int = 50) -> tuple[StoredReceipt, ...]:
        """The newest receipts first, from below `before` (a `number`) on."""
        query = f"SELECT {COLUMNS} FROM receipts WHERE number < ? ORDER BY number DESC LIMIT ?"
        rows = await self._database.read(query, before or (1 << 62), limit)
        return tuple(to_receipt(row) for row in rows)

    async def receipts_of_request(self, role: Role, request_hash: bytes) -> tuple[StoredReceipt, ...]:
        """A request's receipts by step: what a repeated request is answered with."""
        query = f"SELECT {COLUMNS} FROM receipts WHERE role = ? AND request_hash = ? ORDER BY seq, number"
        return tuple(to_receipt(row) for row in await self._database.read(query, role, request_hash))

    async def channels(self, role: Role) -> tuple[Channel, ...]:
        """Every channel of this node in a role."""
        query = "SELECT payer, lane, seq, cumulative, voucher FROM channels WHERE role = ? ORDER BY 1, 2"
        rows = await self._database.read(query, role)
        return tuple(to_channel(role, row[0], row[1], row[2:]) for row in rows)

    async def uncommitted(self, lane: Address) -> tuple[StoredReceipt, ...]:
        """This lane's paid receipts that no commitment holds yet, by payer and seq."""
        query = (
            f"SELECT {COLUMNS} FROM receipts WHERE role = 'worker' AND lane = ? AND commitment IS NULL "
            "AND state = 'vouchered' ORDER BY payer, seq"
        )
        return await _in_thread(await self._database.read(query, lane))

    async def committed(self, lane: Address, epoch: int) -> tuple[StoredReceipt, ...]:
        """The receipts that this lane's commitment of an epoch holds, by payer and seq."""
        query = (
            f"SELECT {COLUMNS} FROM receipts WHERE role = 'worker' AND lane = ? AND commitment = ? "
            "ORDER BY payer, seq"
        )
        return await _in_thread(await self._database.read(query, lane, epoch))


async def _in_thread(rows: list[Row]) -> tuple[StoredReceipt, ...]:
    """An epoch's receipts may be many: 0.1 ms each would hold the node's loop."""
    return await trio.to_thread.run_sync(lambda: tuple(to_receipt(row) for row in rows))
