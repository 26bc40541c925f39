"""A prefetch suggestion over a real connection: taken while there is room, otherwise declined."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from commonlore.peer.asking.prefetch import METHOD, Prefetching, PrefetchParts, suggest
from commonlore.peer.bucket import Bucket
from commonlore.peer.clock import ManualClock
from commonlore.peer.wire.rpc import Rpc
from commonlore.protocol.encoding.codec import decode_value, encode, encode_value
from commonlore.protocol.errors import NotFound, Refused
from commonlore.protocol.ids import Address, Cid, PeerId, cid_of
from commonlore.protocol.requests.records import Suggestion
from commonlore.protocol.signing.bindings import SignedBinding, bind
from commonlore.protocol.signing.eip712 import Domain
from commonlore.protocol.signing.keys import AccountKey, PeerKey
from commonlore.worker.adapters.store import AdapterStore, FetchedAdapter

BASE, OTHER_BASE = cid_of(b"base"), cid_of(b"other base")
KNOWN, OTHER, UNKNOWN, FOREIGN = (cid_of(name) for name in (b"known", b"other", b"unknown", b"foreign"))
DOMAIN = Domain(31_337, Address(b"\xe5" * 20))
NOW_S = 1_900_000_000


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


@dataclass
class Worker:
    """A worker's side on a real host, and a client that suggests."""

    prefetching: Prefetching
    engine: RoomForOne
    rpc: Rpc
    peer: PeerId
    limits: dict[Address, int]
    gate: trio.Event
    fetched: list[Cid] = field(default_factory=list)

    async def takes(self, adapter: Cid, binding: SignedBinding) -> bool:
        """What the worker says to a suggestion."""
        answer = await self.rpc.call(self.peer, METHOD, encode(Suggestion(adapter, binding)))
        taken = decode_value(answer)
        assert isinstance(taken, bool)
        return taken


def bound(number: int = 1, host: int = 1) -> SignedBinding:
    """The binding of owner `number` and a host's key."""
    accounts = (AccountKey.from_secret(bytes([n]) * 32) for n in (number, 100 + number))
    return bind(DOMAIN, *accounts, PeerKey.generate(bytes([host + 1]) * 32), NOW_S - 60, NOW_S + 86_400)


@pytest.fixture
def worker(hosts: Callable[..., AbstractAsyncContextManager[list[Any]]]) -> Any:
    """Opens a `Worker` whose fetches wait for its gate; everybody is good for 100."""

    @asynccontextmanager
    async def open_worker() -> AsyncIterator[Worker]:
        engine, gate, limits = RoomForOne(), trio.Event(), dict[Address, int]()
        fetched: list[Cid] = []

        async def fetch_later(adapter: Cid) -> FetchedAdapter:
            await gate.wait()
            fetched.append(adapter)
            return await fetch(adapter)

        async def payable(adapter: Cid) -> Any:
            return SimpleNamespace(base=OTHER_BASE if adapter == FOREIGN else BASE)

        async def limit(payer: Address, _owner: Address) -> int:
            return limits.get(payer, 100)

        known = {KNOWN: 1, OTHER: 1, FOREIGN: 1}
        catalog: Any = SimpleNamespace(record_of=known.get, payable=payable)
        funds: Any = SimpleNamespace(limit=limit)
        store = AdapterStore(engine, fetch_later)
        clock = ManualClock(NOW_S * 1000)
        async with hosts(2) as (host, client), trio.open_nursery() as nursery:
            prefetching = Prefetching(
                PrefetchParts(store, fetch_later, catalog, funds, DOMAIN, clock, BASE, 50)
            )
            nursery.start_soon(prefetching.run)
            await trio.testing.wait_all_tasks_blocked()
            Rpc(host).serve(METHOD, prefetching.serve)
            yield Worker(prefetching, engine, Rpc(client), host.peer_id, limits, gate, fetched)
            nursery.cancel_scope.cancel()

    return open_worker


async def test_a_suggestion_takes_free_memory_and_never_more(
    worker: Any, until: Callable[..., Awaitable[None]]
) -> None:
    async with worker() as w:
        await suggest(w.rpc, w.peer, KNOWN, bound())
        assert not await w.takes(OTHER, bound())  # it is busy
        w.gate.set()  # who suggests does not wait for the adapter
        await until(lambda: KNOWN in w.engine.resident)
        assert not await w.takes(OTHER, bound())
        assert list(w.engine.resident) == [KNOWN]
        with pytest.raises(NotFound, match="never announced"):
            await w.takes(UNKNOWN, bound())
        await suggest(w.rpc, w.peer, UNKNOWN, bound())  # what a worker declines is no error


async def test_a_suggestion_holds_no_memory_while_it_is_fetched(
    worker: Any, until: Callable[..., Awaitable[None]]
) -> None:
    """A slow provider keeps no asks waiting; and what they brought meanwhile is not evicted."""
    async with worker() as w:
        assert await w.takes(KNOWN, bound())
        await AdapterStore(w.engine, fetch).ensure(OTHER)
        w.gate.set()
        await until(lambda: w.fetched == [KNOWN])
        await trio.testing.wait_all_tasks_blocked()
        assert list(w.engine.resident) == [OTHER]


async def test_only_who_could_pay_is_listened_to(worker: Any) -> None:
    async with worker() as w:
        poor = bound(2)
        w.limits[poor.binding.session_key] = 49
        assert not await w.takes(KNOWN, poor)
        with pytest.raises(Refused, match="another peer"):
            await w.takes(KNOWN, bound(host=5))
        with pytest.raises(Refused, match="signature"):
            await w.takes(KNOWN, replace(bound(), owner_signature=bytes(65)))
        with pytest.raises(Refused, match="Suggestion"):
            await w.rpc.call(w.peer, METHOD, encode_value(KNOWN))
        assert await w.takes(KNOWN, bound())


async def test_an_owner_is_not_listened_to_often(worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commonlore.peer.asking.prefetch.TAKEN_PER_S", 1e-9)
    async with worker() as w:
        w.gate.set()
        for _ in range(2):
            assert await w.takes(FOREIGN, bound())  # comes to nothing: see the next test
            await trio.testing.wait_all_tasks_blocked()
        assert not await w.takes(KNOWN, bound())
        assert await w.takes(KNOWN, bound(3))


async def test_an_adapter_for_another_base_is_not_even_fetched(
    worker: Any, until: Callable[..., Awaitable[None]]
) -> None:
    async with worker() as w:
        w.gate.set()
        assert await w.takes(FOREIGN, bound())
        await trio.testing.wait_all_tasks_blocked()
        assert await w.takes(KNOWN, bound())
        await until(lambda: KNOWN in w.engine.resident)
        assert FOREIGN not in w.fetched


async def test_suggestions_are_judged_only_so_often(worker: Any) -> None:
    """Each may cost a reading of the chain, and keys are free."""
    async with worker() as w:
        poor = bound(2)
        w.limits[poor.binding.session_key] = 0
        w.prefetching._judged = Bucket(1e-9, 3, trio.current_time())
        for _ in range(3):
            assert not await w.takes(KNOWN, poor)
        assert not await w.takes(KNOWN, bound())
