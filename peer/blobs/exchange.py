"""Serving and fetching content over `/commonlore/blob/1`: pulled chunk by chunk, every chunk verified.

The rules of this file. A request is 41 bytes: what (0 the named bytes: a manifest, or content of one chunk; 1
a chunk of content), the binary CID, the chunk's index. Replies come in the order of requests: a status byte,
a uint32 length, the bytes. Who fetches keeps at most four requests under way with each provider, and asks for
no more than it can hold: so a reader never waits for a disk. A wrong byte bans its provider for this fetch;
what arrived before stays for the next.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from ...protocol.content.blob_names import (
    MAX_MANIFEST_BYTES,
    BlobManifest,
    check_small,
    has_manifest,
    open_manifest,
)
from ...protocol.errors import CommonloreError, NotFound, RemoteProtocolError
from ...protocol.ids import CHUNK_SIZE, Cid, PeerId, cid_from_bytes
from ..keyed_lock import KeyedLock
from ..wire.host import Host
from ..wire.host_stream import Stream
from .blob_store import BlobStore
from .blob_stream import BLOB, CHUNK, PROTOCOL, REQUEST, BlobStream, found, missing
from .download import Download, Progress, explain

log = logging.getLogger(__name__)

MAX_PROVIDERS = 8
STREAMS_PER_PROVIDER = 4
"""Fetches from one provider beyond these wait; it would reset a ninth stream."""
IDLE_LIMIT_S = 120.0


class BlobService:
    """The blobs of one host: what its store has is served, what it lacks is fetched into it."""

    def __init__(self, host: Host, store: BlobStore) -> None:
        self.store = store
        self._host = host
        self._slots: dict[PeerId, trio.Semaphore] = {}
        self._fetching: KeyedLock[Cid] = KeyedLock()
        host.serve(PROTOCOL, self._serve)

    # ---- fetching

    async def fetch(
        self,
        cid: Cid,
        providers: Sequence[PeerId],
        max_size: int,
        progress: Progress | None = None,
    ) -> Path:
        """The file with the content of `cid`, fetched from the providers unless it is here; they are tried
        together.

        `progress(bytes here, bytes in all)` is called as it comes. Raises RemoteProtocolError when it is
        larger than `max_size` (before anything is written), NotFound when no provider has it, Unreachable
        when none delivers, ConfigError when it does not fit on the disk. What came before a failure is
        resumed by the next fetch.
        """
        async with self._fetching.hold(cid):
            if not self.store.has(cid):
                others = [peer for peer in dict.fromkeys(providers) if peer != self._host.peer_id]
                if has_manifest(cid):
                    await self._fetch_chunks(cid, others[:MAX_PROVIDERS], max_size, progress)
                else:
                    await self._fetch_small(cid, others, max_size)
            path = await trio.to_thread.run_sync(self.store.path, cid)
        if path.stat().st_size > max_size:
            raise RemoteProtocolError(f"content {cid} is larger than the {max_size} bytes accepted here")
        return path

    async def fetch_bytes(self, cid: Cid, providers: Sequence[PeerId], max_size: int) -> bytes:
        """The content itself, for what fits in memory. Raises as `fetch`."""
        path = await self.fetch(cid, providers, max_size)
        return await trio.to_thread.run_sync(path.read_bytes)

    async def _fetch_small(self, cid: Cid, providers: Sequence[PeerId], max_size: int) -> None:
        data = await self._fetch_named(cid, providers, min(max_size, CHUNK_SIZE), check_small)
        await trio.to_thread.run_sync(self.store.put_bytes, data)

    async def _fetch_chunks(
        self, cid: Cid, providers: Sequence[PeerId], max_size: int, progress: Progress | None
    ) -> None:
        manifest = await self._manifest(cid, providers, max_size)
        if manifest.size > max_size:
            raise RemoteProtocolError(
                f"content {cid} has {manifest.size} bytes; at most {max_size} are accepted here"
            )
        partial = await trio.to_thread.run_sync(self.store.open_partial, cid, manifest)
        try:
            await Download(cid, partial, progress).run(self._open, providers)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self.store.close_partial, cid, partial)

    async def _manifest(self, cid: Cid, providers: Sequence[PeerId], max_size: int) -> BlobManifest:
        known = await trio.to_thread.run_sync(self.store.manifest, cid)
        if known is not None:
            return known
        limit = min(MAX_MANIFEST_BYTES, 64 + 34 * -(-max_size // CHUNK_SIZE))
        data = await self._fetch_named(cid, providers, limit, open_manifest)
        return await trio.to_thread.run_sync(self.store.put_manifest, cid, data)

    async def _fetch_named(
        self, cid: Cid, providers: Sequence[PeerId], limit: int, check: Callable[[Cid, bytes], object]
    ) -> bytes:
        failures: list[CommonloreError] = []
        for peer in providers:
            try:
                async with self._open(peer) as stream:
                    data = await stream.ask(BLOB, cid, limit)
                    check(cid, data)
                    return data
            except CommonloreError as wrong:
                failures.append(wrong)
        raise explain(cid, failures)

    @asynccontextmanager
    async def _open(self, peer: PeerId) -> AsyncIterator[BlobStream]:
        slots = self._slots.setdefault(peer, trio.Semaphore(STREAMS_PER_PROVIDER))
        async with slots, BlobStream.open(self._host, peer) as stream:
            yield stream

    # ---- serving

    async def _serve(self, stream: Stream) -> None:
        buffer = bytearray()
        while True:
            with trio.move_on_after(IDLE_LIMIT_S) as idle:
                data = await stream.receive_some()
            if idle.cancelled_caught or not data:
                return
            buffer += data
            while len(buffer) >= REQUEST.size:
                what, name, index = REQUEST.unpack_from(buffer)
                del buffer[: REQUEST.size]
                await stream.send_all(await self._answer(what, cid_from_bytes(name), index))

    async def _answer(self, what: int, cid: Cid, index: int) -> bytes:
        if what == CHUNK and index < 1 << 18:
            data = await trio.to_thread.run_sync(self._chunk, cid, index)
        elif what == BLOB:
            data = await trio.to_thread.run_sync(self._named, cid)
        else:
            raise RemoteProtocolError(f"a request for {what}")
        return missing() if data is None else found(data)

    def _chunk(self, cid: Cid, index: int) -> bytes | None:
        """A chunk of content that is here; None for one behind its end."""
        try:
            return self.store.chunk(cid, index) or None
        except NotFound:
            return None

    def _named(self, cid: Cid) -> bytes | None:
        """The very bytes that hash to the name."""
        try:
            return self.store.manifest_bytes(cid) if has_manifest(cid) else self.store.chunk(cid, 0)
        except NotFound:
            return None
