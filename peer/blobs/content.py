"""Content as the rest of a node sees it: put bytes and get a name, give a name and get bytes, wherever they
are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import trio

from ...protocol.ids import Cid, PeerId
from .blob_store import BlobStore
from .download import Progress
from .exchange import BlobService

FindProviders = Callable[[Cid], Awaitable[Sequence[PeerId]]]
"""Peers that may have some content, the likeliest first."""


class Content:
    """The node's blobs: its own store first, then whoever provides them."""

    def __init__(self, service: BlobService, find: FindProviders) -> None:
        self._service = service
        self._find = find

    @property
    def store(self) -> BlobStore:
        """What is on this machine."""
        return self._service.store

    def has(self, cid: Cid) -> bool:
        """Whether it is on this machine."""
        return self.store.has(cid)

    def is_pinned(self, cid: Cid) -> bool:
        """Whether this home keeps it whatever the quota says: what it made or published itself."""
        return self.store.is_pinned(cid)

    def forget(self, cid: Cid) -> None:
        """Take this off the machine, pinned or not, with what was fetched of it so far."""
        self.store.unpin(cid)
        self.store.remove(cid)
        self.store.remove_partial(cid)

    async def starting_with(self, beginning: bytes) -> tuple[Cid, ...]:
        """What is on this machine and begins with these bytes."""
        return await trio.to_thread.run_sync(self.store.starting_with, beginning)

    async def put(self, data: bytes) -> Cid:
        """Keep these bytes, pinned, and name them. Raises ConfigError when they do not fit."""
        cid = await trio.to_thread.run_sync(self.store.put_bytes, data)
        self.store.pin(cid)
        return cid

    async def hold(self, data: bytes) -> Cid:
        """Keep these bytes as long as the quota has room for them, and name them: what strangers had this
        home make must not fill it. Raises ConfigError when they do not fit."""
        return await trio.to_thread.run_sync(self.store.put_bytes, data)

    async def put_file(self, path: Path) -> Cid:
        """Keep a copy of a file, pinned, and name it.

        Raises ConfigError when it does not fit or cannot be read.
        """
        cid = await trio.to_thread.run_sync(self.store.put_file, path)
        self.store.pin(cid)
        return cid

    async def path(self, cid: Cid, max_size: int, progress: Progress | None = None) -> Path:
        """A file with the verified content.

        Raises NotFound, Unreachable, RemoteProtocolError above `max_size` bytes.
        """
        if self.store.has(cid):
            return await self._service.fetch(cid, (), max_size)
        return await self._service.fetch(cid, await self._find(cid), max_size, progress)

    async def get(self, cid: Cid, max_bytes: int) -> bytes:
        """The verified content itself. Raises as `path`."""
        path = await self.path(cid, max_bytes)
        return await trio.to_thread.run_sync(path.read_bytes)
