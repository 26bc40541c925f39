"""`prefetch`: a client suggests to a worker to load an adapter before anybody asks it for one.

Rules of this file: a suggestion costs the worker a free slot at most, never an eviction, and nobody waits for
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
    """The worker's side: one suggestion at a time, while there are free slots."""

    def __init__(self, adapters: AdapterStore, catalog: Catalog, slots: int) -> None:
        self._adapters = adapters
        self._catalog = catalog
        self._slots = slots
        self._busy = False

    async def serve(self, call: Call) -> None:
        """Answers at once whether the adapter will be made ready. Raises RemoteProtocolError, NotFound."""
        wanted = decode_value(await call.receive(), 256)
        if not isinstance(wanted, str):
            raise RemoteProtocolError(f"{METHOD} takes an adapter id")
        adapter = to_cid(wanted)
        if self._catalog.record_of(adapter) is None:
            raise NotFound(f"adapter {adapter} was never announced here")
        free = len(self._adapters.ready()) < self._slots
        await call.send(encode_value(free and not self._busy))
        if free and not self._busy:
            self._busy = True
            try:
                await self._adapters.ensure(adapter)
            finally:
                self._busy = False
