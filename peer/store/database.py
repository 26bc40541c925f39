"""SQLite behind the asyncio bridge: transactions, migrations, and the seam where SQLite's errors become ours.

Rules of this file:

- Writes go through one connection, one transaction at a time; reads through another, so that they see only
  what is committed. Journal mode is WAL.
- A durable transaction is on the disk (synchronous=FULL) when `write` returns. The others survive the death
  of the process, not of the machine.
- A transaction that began is finished even when its caller is cancelled: the caller either never asked, or
  knows.
- A statement crosses to SQLite's thread and back once: a crossing costs more than most statements.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import trio

from ...protocol.errors import CommonloreError, ConfigError, LocalProtocolError
from ..aio import AioThread
from .schema import MIGRATIONS

BUSY_MS = 10_000
"""How long to wait for another process that writes the same file."""
WRITER_PRAGMAS = (
    f"busy_timeout = {BUSY_MS}",
    "journal_mode = WAL",
    "foreign_keys = ON",
    "synchronous = FULL",
)

T = TypeVar("T")
Row = tuple[Any, ...]


class StoreFailed(CommonloreError):
    """The store's file cannot be read or written; the message carries SQLite's reason."""

    code = "store_failed"


class Transaction:
    """What may be done within one transaction. Lives on the asyncio side."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def run(self, query: str, *values: object) -> int:
        """Run a statement that yields no rows; the number of rows it changed."""
        cursor = await self._connection.execute(query, values)
        return cursor.rowcount  # it ran to its end: nothing is left to close

    async def insert(self, table: str, *, replace: bool = False, **values: object) -> None:
        """Insert a row of these columns; `replace`: in place of the one with its primary key."""
        marks = ", ".join("?" * len(values))
        verb = "INSERT OR REPLACE" if replace else "INSERT"
        await self.run(f"{verb} INTO {table} ({', '.join(values)}) VALUES ({marks})", *values.values())

    async def one(self, query: str, *values: object) -> Row | None:
        """The first row, or None."""
        rows = await self.all(query, *values)
        return rows[0] if rows else None

    async def all(self, query: str, *values: object) -> list[Row]:
        """Every row."""
        rows = await self._connection.execute_fetchall(query, values)
        return [tuple(row) for row in rows]


Work = Callable[[Transaction], Awaitable[T]]


class Database:
    """An open store file. Make it with `open_database`."""

    def __init__(self, path: Path, aio: AioThread) -> None:
        self._path = path
        self._aio = aio
        self._writer: aiosqlite.Connection
        self._reader: aiosqlite.Connection
        self._turn: asyncio.Lock
        self._is_durable = True

    async def read(self, query: str, *values: object) -> list[Row]:
        """Rows of what is committed."""
        return await self._bridge(lambda: Transaction(self._reader).all(query, *values))

    async def write(self, work: Work[T], *, durable: bool = True) -> T:
        """Run `work` in a transaction; when this returns, its changes stay. Any exception undoes them all."""
        with trio.CancelScope(shield=True):
            result = await self._bridge(lambda: self._transact(work, durable))
        return result

    async def erase(self, work: Work[T]) -> T:
        """As `write`, and what `work` deletes is overwritten, in the file and in its log beside it (there as
        soon as no other process reads)."""
        with trio.CancelScope(shield=True):
            result = await self._bridge(lambda: self._erase(work))
        return result

    async def open(self) -> None:
        """Connect and bring the tables up to date."""
        await self._bridge(self._connect)

    async def close(self) -> None:
        """Close both connections."""
        with trio.CancelScope(shield=True):
            await self._bridge(self._disconnect)

    async def _bridge(self, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await self._aio.call(work)
        except sqlite3.Error as error:
            raise StoreFailed(f"{self._path}: {error}; see to the disk or the file, then retry") from error
        except OverflowError as error:
            raise LocalProtocolError(f"{self._path}: a number above 2^63 - 1 cannot be stored") from error

    async def _connect(self) -> None:
        self._turn = asyncio.Lock()
        self._writer = await aiosqlite.connect(self._path, isolation_level=None)
        try:
            await self._set_up(self._writer)
            self._reader = await aiosqlite.connect(self._path, isolation_level=None)
        except BaseException:
            await self._writer.close()
            raise
        await self._reader.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        await self._reader.execute("PRAGMA query_only = ON")

    async def _set_up(self, connection: aiosqlite.Connection) -> None:
        for pragma in WRITER_PRAGMAS:
            await connection.execute(f"PRAGMA {pragma}")
        await self._transact(self._migrate, True)

    async def _disconnect(self) -> None:
        await self._reader.close()
        await self._writer.close()

    async def _migrate(self, sql: Transaction) -> None:
        row = await sql.one("PRAGMA user_version")
        version = row[0] if row else 0
        if version > len(MIGRATIONS):
            raise ConfigError(
                f"{self._path} is from a newer Commonlore (version {version}); upgrade this one"
            )
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                await sql.run(statement)
        await sql.run(f"PRAGMA user_version = {len(MIGRATIONS)}")

    async def _transact(self, work: Work[T], durable: bool) -> T:
        async with self._turn:
            await self._set_durability(durable)
            await self._writer.execute("BEGIN IMMEDIATE")
            try:
                result = await work(Transaction(self._writer))
                await self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    await self._writer.execute("ROLLBACK")
                raise
            return result

    async def _erase(self, work: Work[T]) -> T:
        await self._writer.execute("PRAGMA secure_delete = ON")
        try:
            return await self._transact(work, True)
        finally:
            await self._writer.execute("PRAGMA secure_delete = OFF")
            await self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    async def _set_durability(self, durable: bool) -> None:
        if durable != self._is_durable:
            await self._writer.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._is_durable = durable


@asynccontextmanager
async def open_database(path: Path, aio: AioThread) -> AsyncIterator[Database]:
    """The store file, made if missing. Raises StoreFailed, or ConfigError when a newer program made it."""
    database = Database(path, aio)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


def pack_amount(amount: int) -> bytes:
    """A uint128 as stored. Raises LocalProtocolError on anything else."""
    if not 0 <= amount < 1 << 128:
        raise LocalProtocolError(f"not an amount: {amount}")
    return amount.to_bytes(16, "big")


def unpack_amount(stored: bytes) -> int:
    """A uint128 from its stored form."""
    return int.from_bytes(stored, "big")
