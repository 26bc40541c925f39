"""The names that a home has heard, read from its store in a moment: for shells, to complete words with.

Rules of this file: the file is opened for reading only, by SQLite alone; nothing else of a node is loaded.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

from ..protocol.encoding.codec import tag_of
from ..protocol.encoding.shapes import Record
from .home import Home

PATIENCE_S = 0.5
MOST = 1_000


def known_names(home: Home, kind: type[Record]) -> list[str]:
    """Records of a kind (adapters, Datanets) by name, at most MOST; none where no node has run."""
    if not home.store.exists():
        return []
    with closing(sqlite3.connect(f"{home.store.as_uri()}?mode=ro", timeout=PATIENCE_S, uri=True)) as store:
        query = "SELECT name FROM records WHERE kind = ? ORDER BY name LIMIT ?"
        return [name for (name,) in store.execute(query, (tag_of(kind), MOST))]
