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

from ...protocol.encoding.codec import decode, encode, encode_all
from ...protocol.errors import LocalProtocolError
from ...protocol.ids import Address, Cid
from ...protocol.receipts.records import Credit
from ...protocol.settlement.commitments import Commitment
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
    BOND = "bond"
    ANSWER = "answer"
    PROVE = "prove"
    DEMAND = "demand"


@dataclass(frozen=True, slots=True)
class StoredEpoch:
    """A commitment of a lane. `trees` is the content id of `data`, the EpochData published beside it."""

    lane: Address
    commitment: Commitment
    trees: Cid
    data: bytes | None
    state: EpochState = EpochState.PREPARED
    tx: str | None = None

    @property
    def epoch(self) -> int:
        """Which epoch it commits."""
        return self.commitment.epoch


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
    tx: str | None
    at_ms: int


@dataclass(frozen=True, slots=True)
class Intention:
    """What is about to be sent."""

    step: Step
    lane: Address
    subject: bytes
    amount: int


CreditedReceipt = tuple[bytes, tuple[Credit, ...]]
"""A receipt's hash and who earns what from it."""

_COLUMNS = "lane, commitment, trees, data, state, tx"
_IN_COMMITMENT = "role = 'worker' AND lane = ? AND commitment = ?"
_ASSIGN = (
    "UPDATE receipts SET commitment = ?, credits = ? WHERE role = 'worker' AND lane = ? AND receipt_hash = ? "
    "AND state = 'vouchered' AND commitment IS NULL"
)


class Epochs:
    """Commitments and journal of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def prepare(self, epoch: StoredEpoch, credits: Sequence[CreditedReceipt]) -> None:
        """Fix a commitment's content: each receipt it holds, with its credits.

        Raises LocalProtocolError when one of them is not a paid receipt of this lane without a commitment.
        """

        async def work(sql: Transaction) -> None:
            await _insert(sql, epoch, EpochState.PREPARED)
            for receipt_hash, earned in credits:
                changed = await sql.run(_ASSIGN, epoch.epoch, encode_all(earned), epoch.lane, receipt_hash)
                if changed != 1:
                    raise LocalProtocolError(f"receipt {receipt_hash.hex()} cannot be settled here")

        await self._database.write(work)

    async def adopt(self, epoch: StoredEpoch, receipts: Sequence[bytes]) -> None:
        """Take in a commitment that stands on the chain and that this store did not make: a successor's, or
        one from before the store was restored. Of its `receipts` (by hash) those that are here belong to it.
        """

        async def work(sql: Transaction) -> None:
            await _insert(sql, epoch, EpochState.POSTED)
            for receipt_hash in receipts:
                await sql.run(_ASSIGN, epoch.epoch, encode_all(()), epoch.lane, receipt_hash)

        await self._database.write(work)

    async def withdraw(self, lane: Address, epoch: int) -> None:
        """Undo `prepare` of a commitment that was not posted. Raises LocalProtocolError otherwise."""

        async def work(sql: Transaction) -> None:
            await _require(sql, lane, epoch, EpochState.PREPARED)
            free = f"UPDATE receipts SET commitment = NULL, credits = NULL WHERE {_IN_COMMITMENT}"
            await sql.run(free, lane, epoch)
            await sql.run("DELETE FROM epochs WHERE lane = ? AND epoch = ?", lane, epoch)

        await self._database.write(work)

    async def mark_posted(self, lane: Address, epoch: int, tx: str | None = None) -> None:
        """A prepared commitment is on the chain: what its receipts earned is claimed by the next one."""

        async def work(sql: Transaction) -> None:
            await _require(sql, lane, epoch, EpochState.PREPARED)
            posted = "UPDATE epochs SET state = 'posted', tx = ? WHERE lane = ? AND epoch = ?"
            await sql.run(posted, tx, lane, epoch)

        await self._database.write(work)

    async def take_back(self, lane: Address, epoch: int) -> None:
        """A posted commitment is not on the chain any more (its block was replaced): it is prepared again."""

        async def work(sql: Transaction) -> None:
            await _require(sql, lane, epoch, EpochState.POSTED)
            prepared = "UPDATE epochs SET state = 'prepared', tx = NULL WHERE lane = ? AND epoch = ?"
            await sql.run(prepared, lane, epoch)

        await self._database.write(work)

    async def mark_final(self, lane: Address, epoch: int) -> None:
        """A posted commitment's window has passed. The data of earlier ones is needed no more."""

        async def work(sql: Transaction) -> None:
            final = "UPDATE epochs SET state = 'final' WHERE lane = ? AND epoch = ? AND state = 'posted'"
            await sql.run(final, lane, epoch)
            await sql.run("UPDATE epochs SET data = NULL WHERE lane = ? AND epoch < ?", lane, epoch)

        await self._database.write(work)

    async def all(self, lane: Address, state: EpochState | None = None) -> tuple[StoredEpoch, ...]:
        """A lane's commitments by epoch, all or those in a state."""
        query = f"SELECT {_COLUMNS} FROM epochs WHERE lane = ? AND (? IS NULL OR state = ?) ORDER BY epoch"
        return tuple(_epoch(row) for row in await self._database.read(query, lane, state, state))

    async def last(self, lane: Address, state: EpochState | None = None) -> StoredEpoch | None:
        """A lane's latest commitment, of all or of those in a state."""
        query = (
            f"SELECT {_COLUMNS} FROM epochs WHERE lane = ? AND (? IS NULL OR state = ?) "
            "ORDER BY epoch DESC LIMIT 1"
        )
        rows = await self._database.read(query, lane, state, state)
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

    async def done(self, numbers: Sequence[int], tx: str | None = None) -> None:
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


async def _require(sql: Transaction, lane: Address, epoch: int, state: EpochState) -> None:
    query = "SELECT 1 FROM epochs WHERE lane = ? AND epoch = ? AND state = ?"
    if await sql.one(query, lane, epoch, state) is None:
        raise LocalProtocolError(f"epoch {epoch} is not a {state} one; nothing was changed")


def _epoch(row: Row) -> StoredEpoch:
    lane, commitment, trees, data, state, tx = row
    return StoredEpoch(Address(lane), decode(Commitment, commitment), Cid(trees), data, EpochState(state), tx)


def _entry(row: Row) -> JournalEntry:
    number, step, lane, subject, amount, state, tx, at_ms = row
    is_done = state == "done"
    return JournalEntry(number, Step(step), Address(lane), subject, unpack_amount(amount), is_done, tx, at_ms)


async def _insert(sql: Transaction, epoch: StoredEpoch, state: EpochState) -> None:
    await sql.insert(
        "epochs",
        lane=epoch.lane,
        epoch=epoch.epoch,
        commitment=encode(epoch.commitment),
        trees=epoch.trees,
        data=epoch.data,
        state=state,
    )
