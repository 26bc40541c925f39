"""A lane's commitments and the journal of what settlement sent.

Rules of this file:

- A commitment's content is fixed in one transaction: which receipts it holds, with their credits. From then
  on it can be posted again and again and is the same; until it is posted it can be withdrawn, whole.
- The journal says what was intended before it is sent and what was done after. It decides nothing: on a
  restart the chain itself is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ..protocol.codec import encode_all
from ..protocol.errors import LocalProtocolError
from ..protocol.ids import Address, Cid
from ..protocol.receipts import Credit
from .database import Database, Row, Transaction, pack_amount, unpack_amount


class EpochState(StrEnum):
    """prepared: content fixed; posted: on chain; final: its window has passed, its earnings can be had."""

    PREPARED = "prepared"
    POSTED = "posted"
    FINAL = "final"


class Step(StrEnum):
    """What settlement sends to the chain."""

    REDEEM = "redeem"
    POST = "post"
    CLAIM = "claim"


@dataclass(frozen=True, slots=True)
class StoredEpoch:
    """A commitment of a lane. `commitment` is its canonical CBOR; `trees` the content id of its published
    trees.
    """

    lane: Address
    epoch: int
    commitment: bytes
    trees: Cid
    state: EpochState
    tx: bytes | None = None


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One transaction: `subject` is the payer redeemed, the account paid, or empty; `at_ms` when it was
    intended.
    """

    number: int
    step: Step
    lane: Address
    subject: bytes
    amount: int
    is_done: bool
    tx: bytes | None
    at_ms: int


@dataclass(frozen=True, slots=True)
class Intention:
    """What is about to be sent."""

    step: Step
    lane: Address
    subject: bytes
    amount: int


class Epochs:
    """Commitments and journal of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def prepare(self, epoch: StoredEpoch, credits: Sequence[tuple[bytes, tuple[Credit, ...]]]) -> None:
        """Fix a commitment's content: (receipt hash, credits) of each receipt it holds.

        Raises LocalProtocolError when one of them is not a paid receipt of this lane without a commitment.
        """

        async def work(sql: Transaction) -> None:
            await sql.insert(
                "epochs",
                lane=epoch.lane,
                epoch=epoch.epoch,
                commitment=epoch.commitment,
                trees=epoch.trees,
                state=EpochState.PREPARED,
            )
            assign = (
                "UPDATE receipts SET commitment = ?, credits = ? WHERE role = 'worker' AND lane = ? "
                "AND receipt_hash = ? AND state = 'vouchered' AND commitment IS NULL"
            )
            for receipt_hash, earned in credits:
                if await sql.run(assign, epoch.epoch, encode_all(earned), epoch.lane, receipt_hash) != 1:
                    raise LocalProtocolError(
                        f"receipt {receipt_hash.hex()} cannot be settled in {epoch.epoch}"
                    )

        await self._database.write(work)

    async def withdraw(self, lane: Address, epoch: int) -> None:
        """Undo `prepare` of a commitment that was not posted."""

        async def work(sql: Transaction) -> None:
            query = "SELECT 1 FROM epochs WHERE lane = ? AND epoch = ? AND state = 'prepared'"
            if await sql.one(query, lane, epoch) is None:
                raise LocalProtocolError(f"epoch {epoch} is not a prepared one; nothing was changed")
            free = (
                "UPDATE receipts SET commitment = NULL, credits = NULL "
                "WHERE role = 'worker' AND lane = ? AND commitment = ?"
            )
            await sql.run(free, lane, epoch)
            await sql.run("DELETE FROM epochs WHERE lane = ? AND epoch = ?", lane, epoch)

        await self._database.write(work)

    async def mark(self, lane: Address, epoch: int, state: EpochState, tx: bytes | None = None) -> None:
        """A commitment reached a state; `tx` is kept when given."""

        async def work(sql: Transaction) -> None:
            query = "UPDATE epochs SET state = ?, tx = coalesce(?, tx) WHERE lane = ? AND epoch = ?"
            await sql.run(query, state, tx, lane, epoch)

        await self._database.write(work)

    async def all(self, lane: Address) -> tuple[StoredEpoch, ...]:
        """A lane's commitments by epoch."""
        query = "SELECT lane, epoch, commitment, trees, state, tx FROM epochs WHERE lane = ? ORDER BY epoch"
        return tuple(_epoch(row) for row in await self._database.read(query, lane))

    async def last(self, lane: Address) -> StoredEpoch | None:
        """A lane's latest commitment."""
        query = (
            "SELECT lane, epoch, commitment, trees, state, tx FROM epochs WHERE lane = ? "
            "ORDER BY epoch DESC LIMIT 1"
        )
        rows = await self._database.read(query, lane)
        return _epoch(rows[0]) if rows else None

    async def intend(self, intentions: Sequence[Intention], now_ms: int) -> tuple[int, ...]:
        """Write down what is about to be sent; returns the entries' numbers."""

        async def work(sql: Transaction) -> tuple[int, ...]:
            numbers: list[int] = []
            for intention in intentions:
                await sql.insert(
                    "journal",
                    step=intention.step,
                    lane=intention.lane,
                    subject=intention.subject,
                    amount=pack_amount(intention.amount),
                    state="intended",
                    at_ms=now_ms,
                )
                row = await sql.one("SELECT last_insert_rowid()")
                numbers.append(row[0] if row else 0)
            return tuple(numbers)

        return await self._database.write(work)

    async def done(self, numbers: Sequence[int], tx: bytes) -> None:
        """What these entries intended is on the chain."""

        async def work(sql: Transaction) -> None:
            for number in numbers:
                await sql.run("UPDATE journal SET state = 'done', tx = ? WHERE number = ?", tx, number)

        await self._database.write(work)

    async def journal(self, *, limit: int = 100) -> tuple[JournalEntry, ...]:
        """The newest entries first."""
        query = (
            "SELECT number, step, lane, subject, amount, state, tx, at_ms FROM journal "
            "ORDER BY number DESC LIMIT ?"
        )
        return tuple(_entry(row) for row in await self._database.read(query, limit))


def _epoch(row: Row) -> StoredEpoch:
    lane, epoch, commitment, trees, state, tx = row
    return StoredEpoch(Address(lane), epoch, commitment, Cid(trees), EpochState(state), tx)


def _entry(row: Row) -> JournalEntry:
    number, step, lane, subject, amount, state, tx, at_ms = row
    is_done = state == "done"
    return JournalEntry(number, Step(step), Address(lane), subject, unpack_amount(amount), is_done, tx, at_ms)
