"""A prefetch suggestion over a real connection: taken while there is room, otherwise declined."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from commonlore.peer.prefetch import METHOD, Prefetching, suggest
from commonlore.peer.rpc import Rpc
from commonlore.protocol.codec import decode_value, encode_value
from commonlore.protocol.errors import NotFound
from commonlore.protocol.ids import Cid, cid_of
from commonlore.worker.adapters.store import AdapterStore, FetchedAdapter

BASE, KNOWN, OTHER, UNKNOWN = (cid_of(name) for name in (b"base", b"known", b"other", b"unknown"))


class RoomForOne:
    """An engine with room for one adapter."""

    def __init__(self) -> None:
        self.facts: Any = SimpleNamespace(
            base=BASE,
            artefact=cid_of(b"artefact"),
            max_rank=64,
            slots=1,
            adapter_ram=100,
            packed_bytes=lambda rank: 60,
        )
        self.resident: dict[Cid, int] = {}

    async def load_adapter(self, source: Any) -> None:
        self.resident[source.adapter] = 60

    async def unload_adapter(self, adapter: Cid) -> None:
        self.resident.pop(adapter)


async def fetch(adapter: Cid) -> FetchedAdapter:
    manifest: Any = SimpleNamespace(name="x", base=BASE, rank=8, alpha=16, targets=("q_proj",))
    return FetchedAdapter(manifest, Path("/adapters") / adapter)


async def test_a_suggestion_takes_free_memory_and_never_more(
    hosts: Callable[..., AbstractAsyncContextManager[list[Any]]], until: Callable[..., Awaitable[None]]
) -> None:
    engine = RoomForOne()
    known = {KNOWN: object(), OTHER: object()}
    catalog: Any = SimpleNamespace(record_of=known.get)
    suggested = trio.Event()

    async def fetch_later(adapter: Cid) -> FetchedAdapter:
        await suggested.wait()
        return await fetch(adapter)

    async with hosts(2) as (worker, client), trio.open_nursery() as nursery:
        prefetching = Prefetching(AdapterStore(engine, fetch_later), catalog)
        nursery.start_soon(prefetching.run)
        Rpc(worker).serve(METHOD, prefetching.serve)
        rpc = Rpc(client)
        await suggest(rpc, worker.peer_id, KNOWN)
        assert (
            decode_value(await rpc.call(worker.peer_id, METHOD, encode_value(OTHER))) is False
        )  # it is busy
        suggested.set()  # who suggests does not wait for the adapter
        await until(lambda: KNOWN in engine.resident)
        answer = await rpc.call(worker.peer_id, METHOD, encode_value(OTHER))
        assert decode_value(answer) is False
        assert list(engine.resident) == [KNOWN]
        with pytest.raises(NotFound, match="never announced"):
            await rpc.call(worker.peer_id, METHOD, encode_value(UNKNOWN))
        await suggest(rpc, worker.peer_id, UNKNOWN)  # what a worker declines is no error
        nursery.cancel_scope.cancel()
