"""The node's store: one SQLite file, in parts. No other room speaks SQL.

`ledger` receipts, vouchers, channels (money: durable when a call returns) · `consents` paid answers
that may still be scored · `epochs` commitments and the
journal of settlement (durable) · `records` what others announced · `requests` what was admitted ·
`settings` small facts of this node, such as the seq of its last advert.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ..aio import AioThread
from .consents import Consents
from .database import Database, Transaction, open_database
from .epochs import Epochs
from .ledger import Ledger
from .ledger_rows import Role
from .records import Records, Requests


class Settings:
    """Named values of this node."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, name: str) -> bytes | None:
        """A value, or None."""
        rows = await self._database.read("SELECT value FROM settings WHERE name = ?", name)
        return rows[0][0] if rows else None

    async def put(self, name: str, value: bytes) -> None:
        """Set a value, durably."""

        async def work(sql: Transaction) -> None:
            await sql.insert("settings", replace=True, name=name, value=value)

        await self._database.write(work)

    async def count(self, name: str, least: int = 0) -> int:
        """The next number of a series: above every earlier one, restarts included, and at least `least`."""

        async def work(sql: Transaction) -> int:
            row = await sql.one("SELECT value FROM settings WHERE name = ?", name)
            number = max(least, 1 + int.from_bytes(row[0], "big") if row else 0)
            await sql.insert("settings", replace=True, name=name, value=number.to_bytes(8, "big"))
            return number

        return await self._database.write(work)


class Store:
    """Everything a node remembers. Make it with `open_store`."""

    def __init__(self, database: Database) -> None:
        self.ledger = Ledger(database)
        self.consents = Consents(database)
        self.epochs = Epochs(database)
        self.records = Records(database)
        self.requests = Requests(database)
        self.settings = Settings(database)

    async def recover(self) -> None:
        """At a node's start: nothing that ran when it stopped still runs.

        Not for a store that a node has open.
        """
        await self.ledger.abandon_all(Role.WORKER)
        await self.requests.fail_running()


@asynccontextmanager
async def open_store(path: Path, aio: AioThread) -> AsyncIterator[Store]:
    """The store in this file, made if missing.

    Raises StoreFailed; ConfigError when a newer program made it.
    """
    async with open_database(path, aio) as database:
        yield Store(database)
