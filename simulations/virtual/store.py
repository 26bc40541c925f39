"""The real store of a node on SQLite in memory, in the thread that asks: virtual time knows no others."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, TypeVar, cast

from ...peer.store.database import Database, Row, Transaction, Work
from ...peer.store.node_store import Store
from ...peer.store.schema import MIGRATIONS

T = TypeVar("T")


class _Connection:
    """What `Transaction` needs of a connection, without another thread."""

    def __init__(self) -> None:
        self.raw = sqlite3.connect(":memory:", isolation_level=None)

    async def execute(self, query: str, values: Sequence[object]) -> sqlite3.Cursor:
        return self.raw.execute(query, values)

    async def execute_fetchall(self, query: str, values: Sequence[object]) -> list[Any]:
        return self.raw.execute(query, values).fetchall()


class MemoryDatabase(Database):
    """A store file that is none. No task runs while a transaction does, so each is alone."""

    def __init__(self) -> None:
        self._memory = _Connection()
        self._sql = Transaction(cast(Any, self._memory))
        for statements in MIGRATIONS:
            for statement in statements:
                self._memory.raw.execute(statement)

    async def read(self, query: str, *values: object) -> list[Row]:
        """Rows of what is committed."""
        return await self._sql.all(query, *values)

    async def write(self, work: Work[T], *, durable: bool = True) -> T:
        """Run `work` in a transaction. Any exception undoes it."""
        self._memory.raw.execute("BEGIN")
        try:
            result = await work(self._sql)
        except BaseException:
            self._memory.raw.execute("ROLLBACK")
            raise
        self._memory.raw.execute("COMMIT")
        return result

    async def close(self) -> None:
        """Let the memory go."""
        self._memory.raw.close()


def open_memory_store() -> Store:
    """An empty store of a node."""
    return Store(MemoryDatabase())
