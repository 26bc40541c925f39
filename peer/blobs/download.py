"""One download from several providers at once.

The rules of this file: chunks wait in one queue for whichever provider is free; what a provider that fails
still owed returns to the queue. Chunks asked for, and not yet on disk, are bounded together; a full disk
stops the asking, never a reader.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

import trio

from ...protocol.content.blob_names import check_chunk
from ...protocol.errors import CommonloreError, ConfigError, NotFound, RemoteProtocolError, Unreachable
from ...protocol.ids import CHUNK_SIZE, Cid, PeerId
from .blob_stream import CHUNK, BlobStream
from .partial import Partial

WINDOW = 4
"""Chunks asked of one provider and not yet come."""
MAX_IN_MEMORY = 48
"""Chunks asked for or waiting for the disk, of all providers."""

OpenStream = Callable[[PeerId], AbstractAsyncContextManager[BlobStream]]
Progress = Callable[[int, int], None]
"""(bytes here, bytes in all)."""


class Download:
    """The missing chunks of `partial`, pulled."""

    def __init__(self, cid: Cid, partial: Partial, progress: Progress | None) -> None:
        self._cid = cid
        self._partial = partial
        self._progress = progress
        self._missing = deque(partial.missing)
        self._unwritten = len(self._missing)
        self._unverified = len(self._missing)
        self._in_memory = 0
        self._pulling = 0
        self._arrived: list[tuple[int, bytes]] = []
        self._failures: list[CommonloreError] = []
        self._disk_failure: OSError | None = None
        self._changed = trio.Event()

    async def run(self, open_stream: OpenStream, providers: Sequence[PeerId]) -> None:
        """Until all is on disk. Raises NotFound, Unreachable, ConfigError when the disk is full."""
        self._pulling = len(providers)
        async with trio.open_nursery() as nursery:
            for peer in providers:
                nursery.start_soon(self._pull, open_stream, peer)
            await self._write()
            nursery.cancel_scope.cancel()
        if self._disk_failure is not None:
            raise ConfigError(
                f"cannot write {self._partial.path}: {self._disk_failure.strerror}; free some space"
            )
        if self._unwritten:
            raise explain(self._cid, self._failures)

    async def _pull(self, open_stream: OpenStream, peer: PeerId) -> None:
        try:
            async with open_stream(peer) as stream:
                await self._pull_from(stream)
        except CommonloreError as wrong:
            self._failures.append(wrong)
        finally:
            self._pulling -= 1
            self._tell()

    async def _pull_from(self, stream: BlobStream) -> None:
        owed: deque[int] = deque()
        try:
            while self._unverified:
                self._ask(stream, owed)
                if owed:
                    data = await stream.receive(CHUNK_SIZE)
                    self._take(stream.peer, owed[0], data)
                    owed.popleft()
                else:
                    await self._changed.wait()
        finally:
            self._missing.extendleft(reversed(owed))
            self._in_memory -= len(owed)

    def _ask(self, stream: BlobStream, owed: deque[int]) -> None:
        while len(owed) < WINDOW and self._missing and self._in_memory < MAX_IN_MEMORY:
            stream.request(CHUNK, self._cid, self._missing[0])
            owed.append(self._missing.popleft())
            self._in_memory += 1

    def _take(self, peer: PeerId, index: int, data: bytes) -> None:
        try:
            check_chunk(self._partial.manifest, index, data)
        except RemoteProtocolError as wrong:
            raise RemoteProtocolError(f"peer {peer} sent wrong content: {wrong}") from wrong
        self._unverified -= 1
        self._arrived.append((index, data))
        self._tell()

    async def _write(self) -> None:
        while self._unwritten and (self._pulling or self._arrived):
            if not self._arrived:
                await self._changed.wait()
                continue
            batch, self._arrived = self._arrived, []
            try:
                await trio.to_thread.run_sync(self._partial.write, batch)
            except OSError as wrong:
                self._disk_failure = wrong
                return
            self._unwritten -= len(batch)
            self._in_memory -= len(batch)
            self._tell()
            self._report()

    def _report(self) -> None:
        if self._progress is not None:
            size = self._partial.manifest.size
            self._progress(max(0, size - self._unwritten * CHUNK_SIZE) if self._unwritten else size, size)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def explain(cid: Cid, failures: Sequence[CommonloreError]) -> CommonloreError:
    """What to raise when every provider failed: NotFound when all said that they lack it, else
    Unreachable."""
    reasons = "; ".join(dict.fromkeys(str(wrong) for wrong in failures)) or "nobody is known to have it"
    if all(isinstance(wrong, NotFound) for wrong in failures):
        return NotFound(f"no provider has {cid}: {reasons}")
    return Unreachable(f"cannot fetch {cid}: {reasons}; what came is kept for the next try")
