"""The bytes of `/commonlore/blob/1`, and its asking side; `blobs` has the rules."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from ...protocol.errors import NotFound, RemoteProtocolError, Unreachable
from ...protocol.ids import Cid, PeerId, cid_to_bytes
from ..wire.host import Host
from ..wire.host_stream import Stream

PROTOCOL = "/commonlore/blob/1"
REQUEST = struct.Struct(">B36sI")
"""What, the binary CID, the index."""
REPLY = struct.Struct(">BI")
"""Status, length."""
BLOB, CHUNK = 0, 1
FOUND, MISSING = 0, 1
STALL_LIMIT_S = 15.0
"""A provider that sends nothing for this long while asked is given up."""


def found(data: bytes) -> bytes:
    """A reply with content."""
    return REPLY.pack(FOUND, len(data)) + data


def missing() -> bytes:
    """The reply for what is not here."""
    return REPLY.pack(MISSING, 0)


class BlobStream:
    """A stream to one provider."""

    def __init__(self, stream: Stream) -> None:
        self.peer = stream.peer
        self._stream = stream
        self._buffer = bytearray()

    @classmethod
    @asynccontextmanager
    async def open(cls, host: Host, peer: PeerId) -> AsyncIterator[BlobStream]:
        """A stream for the length of the block. Raises Unreachable."""
        stream = await host.open_stream(peer, PROTOCOL)
        try:
            yield cls(stream)
        finally:
            await stream.abort()

    def request(self, what: int, cid: Cid, index: int) -> None:
        """Ask; replies come in the order of requests. Raises Unreachable."""
        self._stream.post(REQUEST.pack(what, cid_to_bytes(cid), index))

    async def receive(self, max_bytes: int) -> bytes:
        """The next reply's content. Raises NotFound, Unreachable, RemoteProtocolError above `max_bytes`."""
        await self._fill(REPLY.size)
        status, length = REPLY.unpack_from(self._buffer)
        if status != FOUND:
            raise NotFound(f"peer {self.peer} does not have it")
        if length > max_bytes:
            raise RemoteProtocolError(
                f"peer {self.peer} sends {length} bytes where {max_bytes} were asked for"
            )
        await self._fill(REPLY.size + length)
        data = bytes(memoryview(self._buffer)[REPLY.size : REPLY.size + length])
        del self._buffer[: REPLY.size + length]
        return data

    async def ask(self, what: int, cid: Cid, max_bytes: int) -> bytes:
        """One request and its reply. Raises as `receive`."""
        self.request(what, cid, 0)
        return await self.receive(max_bytes)

    async def _fill(self, size: int) -> None:
        while len(self._buffer) < size:
            with trio.move_on_after(STALL_LIMIT_S) as stall:
                data = await self._stream.receive_some()
            if stall.cancelled_caught:
                raise Unreachable(f"peer {self.peer} sent nothing for {STALL_LIMIT_S:.0f} s")
            if not data:
                raise Unreachable(f"peer {self.peer} closed the stream")
            self._buffer += data
