"""`prefetch`: a client suggests to a worker to load an adapter before anybody asks it for one.

Rules of this file: a suggestion costs the worker free memory at most, never an eviction, and nobody waits for
it.
"""

from __future__ import annotations

import logging

import trio

from ..protocol.codec import decode_value, encode_value
from ..protocol.errors import CommonloreError, NotFound, RemoteProtocolError
from ..protocol.ids import Cid, PeerId, to_cid
from ..worker.adapters.store import AdapterStore
from .calls import Call
from .catalog import Catalog
from .rpc import Rpc

log = logging.getLogger("commonlore.peer.prefetch")
METHOD = "prefetch"
PATIENCE_S = 10.0


async def suggest(rpc: Rpc, peer: PeerId, adapter: Cid) -> None:
    """Tell a worker that asks for this adapter are coming; whether it listens is its own affair."""
    try:
        with trio.move_on_after(PATIENCE_S):
            await rpc.call(peer, METHOD, encode_value(adapter))
    except CommonloreError as error:
        log.debug("no prefetch of %s by %s: %s", adapter, peer, error)


class Prefetching:
    """The worker's side: one suggestion at a time, while there is room. Run `run` in the node's
    nursery: whoever suggests does not stay until it is done.
    """

    def __init__(self, adapters: AdapterStore, catalog: Catalog) -> None:
        self._adapters = adapters
        self._catalog = catalog
        self._accept, self._accepted = trio.open_memory_channel[Cid](0)

    async def run(self) -> None:
        """Make adapters ready that were suggested, one after the other; for ever."""
        async for adapter in self._accepted:
            try:
                await self._adapters.ensure(adapter)
            except CommonloreError as error:
                log.info("adapter %s, which was suggested, is not ready: %s", adapter, error)

    async def serve(self, call: Call) -> None:
        """Answers at once whether the adapter will be made ready. Raises RemoteProtocolError, NotFound."""
        wanted = decode_value(await call.receive(), 256)
        if not isinstance(wanted, str):
            raise RemoteProtocolError(f"{METHOD} takes an adapter id")
        adapter = to_cid(wanted)
        if self._catalog.record_of(adapter) is None:
            raise NotFound(f"adapter {adapter} was never announced here")
        await call.send(encode_value(self._adapters.has_room() and self._take(adapter)))

    def _take(self, adapter: Cid) -> bool:
        """Whether nothing else is being made ready."""
        try:
            self._accept.send_nowait(adapter)
        except trio.WouldBlock:
            return False
        return True
