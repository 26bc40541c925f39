"""A Datanet's rows in one SQLite file, found by their words (FTS5) and, where vectors were made, by meaning.

Rules of this file:
- A file appears whole or not at all: it is built beside its place and moved there. It is a copy of what the
  Datanet holds and may be deleted at any time.
- What somebody asks is never FTS5's query language: its words are quoted, the rest is dropped.
- Rankings by words (BM25) and by meaning are fused by reciprocal rank; without vectors the words decide.
- `forget` is for takedown: the rows' text leaves the file, not merely the index.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...protocol.errors import NotFound, RetrievalFailed
from ...protocol.ids import Address, Cid
from ...protocol.row_words import words_in_order
from .embedding import Embedder
from .fusion import fuse

MAX_QUERY_WORDS = 64
MAX_ROWS = 64
"""Most rows that one search gives."""
CONSIDERED = 64
"""Rows of each ranking that are fused."""
_BATCH = 512
_TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE rows (
    number      INTEGER PRIMARY KEY,
    hash        BLOB NOT NULL,
    payee       BLOB NOT NULL,
    shard       TEXT NOT NULL,
    contributor TEXT NOT NULL,
    question    TEXT NOT NULL,
    answer      TEXT NOT NULL,
    vector      BLOB
) STRICT;
CREATE INDEX rows_by_shard ON rows (shard);
CREATE VIRTUAL TABLE words USING fts5(
    question, answer, content='rows', content_rowid='number', tokenize='unicode61 remove_diacritics 2'
);
"""


@dataclass(frozen=True, slots=True)
class IndexedRow:
    """A row and whose it is. `hash` is its row hash, `shard` the shard that commits it."""

    hash: bytes
    payee: Address
    shard: Cid
    contributor: str
    question: str
    answer: str


def build_index(path: Path, rows: Iterable[IndexedRow], embedder: Embedder | None = None) -> int:
    """Index these rows in the file `path`, replacing it; how many they are."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    beside.unlink(missing_ok=True)
    try:
        with _opened(beside) as sql:
            sql.executescript(_TABLES)
            count = sum(_insert(sql, batch, embedder) for batch in _batches(rows))
            sql.execute("INSERT INTO words(words) VALUES ('rebuild')")
            sql.execute("INSERT INTO words(words) VALUES ('optimize')")
            sql.execute("INSERT INTO facts VALUES ('embedder', ?)", (embedder.name if embedder else "",))
            sql.commit()
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return count


def search(path: Path, question: str, count: int, embedder: Embedder | None = None) -> tuple[IndexedRow, ...]:
    """The rows that go best with a question, at most `count` and MAX_ROWS, the best first.

    Raises NotFound without the file, RetrievalFailed where it is damaged.
    """
    with _existing(path) as sql:
        rankings = [_by_words(sql, question)]
        made_by = sql.execute("SELECT value FROM facts WHERE name = 'embedder'").fetchone()
        if embedder is not None and made_by == (embedder.name,):
            rankings.append(_by_meaning(sql, embedder.embed([question])[0]))
        return tuple(_row(sql, number) for number in fuse(rankings, min(count, MAX_ROWS)))


def forget(path: Path, shard: Cid) -> int:
    """Take a shard's rows out of the file; how many they were. Raises as `search`."""
    with _existing(path) as sql:
        sql.execute("PRAGMA secure_delete = ON")
        found = sql.execute("SELECT number, question, answer FROM rows WHERE shard = ?", (shard,)).fetchall()
        sql.executemany("INSERT INTO words(words, rowid, question, answer) VALUES ('delete', ?, ?, ?)", found)
        sql.execute("DELETE FROM rows WHERE shard = ?", (shard,))
        sql.execute("INSERT INTO words(words) VALUES ('optimize')")
        sql.commit()
        sql.execute("VACUUM")
        return len(found)


def _insert(sql: sqlite3.Connection, batch: Sequence[IndexedRow], embedder: Embedder | None) -> int:
    texts = [f"{row.question}\n{row.answer}" for row in batch]
    vectors = [vector.tobytes() for vector in embedder.embed(texts)] if embedder else [None] * len(batch)
    sql.executemany(
        "INSERT INTO rows (hash, payee, shard, contributor, question, answer, vector) VALUES (?,?,?,?,?,?,?)",
        [
            (row.hash, row.payee, row.shard, row.contributor, row.question, row.answer, vector)
            for row, vector in zip(batch, vectors, strict=True)
        ],
    )
    return len(batch)


def _by_words(sql: sqlite3.Connection, question: str) -> list[int]:
    words = dict.fromkeys(words_in_order(question))
    quoted = " OR ".join(f'"{word}"' for word in list(words)[:MAX_QUERY_WORDS])
    if not quoted:
        return []
    found = sql.execute(
        "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank, rowid LIMIT ?", (quoted, CONSIDERED)
    )
    return [number for (number,) in found]


def _by_meaning(sql: sqlite3.Connection, query: np.ndarray[tuple[int], np.dtype[np.int8]]) -> list[int]:
    rows = sql.execute("SELECT number, vector FROM rows WHERE vector IS NOT NULL ORDER BY number").fetchall()
    if not rows:
        return []
    matrix = np.frombuffer(b"".join(vector for _, vector in rows), np.int8).reshape(len(rows), -1)
    scores = matrix.astype(np.int32) @ query.astype(np.int32)
    return [rows[at][0] for at in np.argsort(-scores, kind="stable")[:CONSIDERED]]


def _row(sql: sqlite3.Connection, number: int) -> IndexedRow:
    columns = "hash, payee, shard, contributor, question, answer"
    found = sql.execute(f"SELECT {columns} FROM rows WHERE number = ?", (number,)).fetchone()
    return IndexedRow(found[0], Address(found[1]), Cid(found[2]), *found[3:])


def _batches(rows: Iterable[IndexedRow]) -> Iterator[list[IndexedRow]]:
    batch: list[IndexedRow] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    sql = sqlite3.connect(path)
    try:
        yield sql
    except sqlite3.DatabaseError as wrong:
        raise RetrievalFailed(f"{path} cannot be used: {wrong}; delete it, and it is made again") from None
    finally:
        with suppress(sqlite3.Error):
            sql.close()


@contextmanager
def _existing(path: Path) -> Iterator[sqlite3.Connection]:
    if not path.exists():
        raise NotFound(f"there is no retrieval index {path.name}; it is made when its Datanet is asked for")
    with _opened(path) as sql:
        yield sql
