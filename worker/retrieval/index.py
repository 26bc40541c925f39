"""A Datanet's rows in one SQLite file, found by their words (FTS5) and, where vectors were made, by meaning.

Rules of this file:
- A file appears whole or not at all: it is built beside its place and moved there. It is a copy of what the
  Datanet holds and may be deleted at any time.
- What somebody asks is never FTS5's query language: its words are quoted, the rest is dropped.
- Rankings by words (BM25) and by meaning are fused by reciprocal rank; without vectors the words decide.
- Rows are found by their words at once; vectors are made later, some at a time, and what is made is kept. A
  row that another index has a vector of is not embedded again.
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

from ...protocol.content.row_words import words_in_order
from ...protocol.errors import NotFound, RetrievalFailed
from ...protocol.ids import Address, Cid
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
CREATE INDEX rows_by_hash ON rows (hash);
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


@dataclass(frozen=True, slots=True)
class Found:
    """A row that a search gave, and its rank among the rows found by words, and by meaning, from 1."""

    row: IndexedRow
    by_words: int | None
    by_meaning: int | None


def build_index(path: Path, rows: Iterable[IndexedRow]) -> int:
    """Index these rows in the file `path`, replacing it; how many they are."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    beside.unlink(missing_ok=True)
    try:
        with _opened(beside) as sql:
            sql.executescript(_TABLES)
            count = sum(_insert(sql, batch) for batch in _batches(rows))
            sql.execute("INSERT INTO words(words) VALUES ('rebuild')")
            sql.execute("INSERT INTO words(words) VALUES ('optimize')")
            sql.commit()
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return count


def take_vectors(path: Path, earlier: Path, embedder: Embedder) -> None:
    """Give the rows of an index the vectors that an earlier index has of them. Raises as `search`."""
    with _existing(path) as sql, _existing(earlier) as other:
        if _made_by(other) != embedder.name:
            return
        _begin_vectors(sql, embedder)
        known = other.execute("SELECT vector, hash FROM rows WHERE vector IS NOT NULL")
        sql.executemany("UPDATE rows SET vector = ? WHERE hash = ? AND vector IS NULL", known)
        sql.commit()


def embed_rows(path: Path, embedder: Embedder, count: int) -> int:
    """Make the vectors of so many rows that have none; how many are left. Raises as `search`."""
    with _existing(path) as sql:
        _begin_vectors(sql, embedder)
        lacking = "FROM rows WHERE vector IS NULL"
        rows = sql.execute(f"SELECT number, question, answer {lacking} LIMIT ?", (count,)).fetchall()
        vectors = embedder.embed([f"{question}\n{answer}" for _, question, answer in rows])
        made = [(vector.tobytes(), number) for vector, (number, *_) in zip(vectors, rows, strict=True)]
        sql.executemany("UPDATE rows SET vector = ? WHERE number = ?", made)
        sql.commit()
        left: int = sql.execute(f"SELECT count(*) {lacking}").fetchone()[0]
        return left


def search(path: Path, question: str, count: int, embedder: Embedder | None = None) -> tuple[Found, ...]:
    """The rows that go best with a question, at most `count` and MAX_ROWS, the best first.

    Raises NotFound without the file, RetrievalFailed where it is damaged.
    """
    with _existing(path) as sql:
        words, meaning = _by_words(sql, question), list[int]()
        if embedder is not None and _made_by(sql) == embedder.name:
            meaning = _by_meaning(sql, embedder.embed([question])[0])
        chosen = fuse([words, meaning], min(count, MAX_ROWS))
        return tuple(Found(_row(sql, each), _rank(words, each), _rank(meaning, each)) for each in chosen)


def _rank(ranking: Sequence[int], number: int) -> int | None:
    return ranking.index(number) + 1 if number in ranking else None


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


def _insert(sql: sqlite3.Connection, batch: Sequence[IndexedRow]) -> int:
    sql.executemany(
        "INSERT INTO rows (hash, payee, shard, contributor, question, answer) VALUES (?,?,?,?,?,?)",
        [(row.hash, row.payee, row.shard, row.contributor, row.question, row.answer) for row in batch],
    )
    return len(batch)


def _made_by(sql: sqlite3.Connection) -> str:
    """Whose vectors stand in the file."""
    found = sql.execute("SELECT value FROM facts WHERE name = 'embedder'").fetchone()
    return str(found[0]) if found else ""


def _begin_vectors(sql: sqlite3.Connection, embedder: Embedder) -> None:
    """Have the file hold this embedder's vectors, and nobody else's."""
    if _made_by(sql) != embedder.name:
        sql.execute("UPDATE rows SET vector = NULL")
        sql.execute("INSERT OR REPLACE INTO facts VALUES ('embedder', ?)", (embedder.name,))


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
