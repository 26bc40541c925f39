"""The store's decisions, on a host and a network that are scripted, in trio's virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from commonlore.protocol.errors import EngineFailed, InvalidAdapter, NotFound, Refused, Unreachable
from commonlore.protocol.ids import Cid, cid_of
from commonlore.worker.adapters.store import BAD_FOR_S, AdapterStore, FetchedAdapter
from commonlore.worker.engine.types import AdapterSource

BASE = cid_of(b"base")
A, B, C, D = (cid_of(name) for name in (b"a", b"b", b"c", b"d"))


class ScriptedHost:
    """An engine with room for `adapters` of rank 8 that says what it was asked; fetching takes a second of
    virtual time.
    """

    def __init__(self, adapters: int = 2) -> None:
        self.facts: Any = SimpleNamespace(
            base=BASE,
            artefact=cid_of(b"artefact"),
            max_rank=64,
            slots=2,
            adapter_ram=80 * adapters,
            packed_bytes=lambda rank: 10 * rank,
        )
        self.resident: dict[Cid, int] = {}
        self.fetches: Counter[Cid] = Counter()
        self.failing: dict[Cid, Exception] = {}
        self.fetch_failing: dict[Cid, Exception] = {}
        self.lost: set[Cid] = set()
        self.ranks: dict[Cid, int] = {}

    async def load_adapter(self, source: AdapterSource) -> None:
        await trio.sleep(0.1)
        if source.adapter in self.lost:
            self.lost.discard(source.adapter)
            raise NotFound("no such file")
        if source.adapter in self.failing:
            raise self.failing[source.adapter]
        self.resident[source.adapter] = 10 * source.rank
        assert sum(self.resident.values()) <= self.facts.adapter_ram

    async def unload_adapter(self, adapter: Cid) -> None:
        self.resident.pop(adapter, None)
        await trio.sleep(0.1)

    async def fetch(self, adapter: Cid) -> FetchedAdapter:
        self.fetches[adapter] += 1
        await trio.sleep(1)
        if adapter in self.fetch_failing:
            raise self.fetch_failing[adapter]
        manifest: Any = SimpleNamespace(
            name="x", base=BASE, rank=self.ranks.get(adapter, 8), alpha=16, targets=("q_proj",)
        )
        return FetchedAdapter(manifest, Path("/adapters") / adapter)


def play(body: Callable[[ScriptedHost, AdapterStore], Awaitable[None]], adapters: int = 2) -> None:
    async def main() -> None:
        host = ScriptedHost(adapters)
        with trio.fail_after(3600):
            await body(host, AdapterStore(host, host.fetch))

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_many_who_wait_for_one_adapter_fetch_it_once() -> None:
    async def body(host: ScriptedHost, store: AdapterStore) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(store.ensure, A)
        assert (host.fetches[A], store.counts.loads, store.is_ready(A)) == (1, 1, True)
        await store.ensure(A)
        assert host.fetches[A] == 1

    play(body)


def test_the_least_recently_used_gives_way() -> None:
    async def body(host: ScriptedHost, store: AdapterStore) -> None:
        for adapter in (A, B, A, C):
            await store.ensure(adapter)
        assert store.ready() == [C, A]
        assert store.counts.evictions == 1

    play(body)


def test_what_is_leased_stays_in_ram_and_others_wait_for_room() -> None:
    async def body(host: ScriptedHost, store: AdapterStore) -> None:
        async with trio.open_nursery() as nursery, store.lease((A, B)) as prepare:
            await prepare()
            nursery.start_soon(store.ensure, C)
            await trio.sleep(60)
            assert set(host.resident) == {A, B}
            assert host.fetches[C] == 1  # it waits on disk
            await store.ensure(A)  # what is leased already needs no turn
        assert C in host.resident

    play(body)


def test_leases_that_overlap_never_wait_in_a_circle() -> None:
    async def body(host: ScriptedHost, store: AdapterStore) -> None:
        done: list[Cid] = []

        async def use(first: Cid, second: Cid) -> None:
            async with store.lease((first, second)) as prepare:
                await prepare()
                assert {first, second} <= set(host.resident)
                await trio.sleep(5)
                assert {first, second} <= set(host.resident)
                done.append(first)

        async with trio.open_nursery() as nursery:
            for pair in ((A, B), (C, D), (B, C), (D, A), (A, B)):
                nursery.start_soon(use, *pair)
        assert len(done) == 5

    play(body)


def test_a_lease_may_be_left_before_it_is_ready() -> None:
    async def body(host: ScriptedHost, store: AdapterStore) -> None:
        async with store.lease((A, B)):
            pass
        with trio.move_on_after(0.5):
            async with store.lease((A, B)) as prepare:
                await prepare()
        async with store.lease((C, D)) as prepare:
            await prepare()
        assert set(host.resident) == {C, D}

    play(body)


def test_more_adapters_than_slots_are_refused() -> None:
    async def body(_host: ScriptedHost, store: AdapterStore) -> None:
        async with store.lease((A, B, C)) as prepare:
            with pytest.raises(Refused, match="composes 3 adapters; this worker has 2 slots"):
                await prepare()

    play(body)


def test_when_the_one_who_fetches_is_cancelled_another_takes_over() -> None:
    async def body(host: ScriptedHost, store: AdapterStore) -> None:
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(0.5):
                async with trio.open_nursery() as leader:
                    leader.start_soon(store.ensure, A)
                    await wait_all_tasks_blocked()
                    nursery.start_soon(store.ensure, A)
        assert host.fetches[A] == 2
        assert store.is_ready(A)

    play(body)


def test_nothing_is_remembered_of_a_load_that_was_given_up() -> None:
    async def body(_host: ScriptedHost, store: AdapterStore) -> None:
        with trio.move_on_after(1.05) as given_up:  # while it is read
            await store.ensure(A)
        assert given_up.cancelled_caught
        assert not store._used
        for adapter in (B, C, B, D):
            await store.ensure(adapter)
        assert store.ready() == [D, B]

    play(body)


def test_a_bad_adapter_is_remembered_and_holds_up_nobody() -> None:
    async def body(host: ScriptedHost, store: AdapterStore) -> None:
        host.failing[A] = InvalidAdapter("A is bad")
        failed: list[str] = []

        async def fail() -> None:
            with pytest.raises(InvalidAdapter, match="A is bad"):
                await store.ensure(A)
            failed.append("A")

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(fail)
            nursery.start_soon(store.ensure, B)
        await fail()
        assert (host.fetches[A], len(failed), store.is_ready(B)) == (1, 4, True)
        del host.failing[A]
        await trio.sleep(BAD_FOR_S + 1)
        await store.ensure(A)
        assert store.is_ready(A)

    play(body)


def test_an_adapter_of_another_base_never_reaches_the_engine() -> None:
    async def body(host: ScriptedHost, store: AdapterStore) -> None:
        host.facts.base = cid_of(b"another base")
        with pytest.raises(InvalidAdapter, match="made for the base"):
            await store.ensure(A)
        assert host.resident == {}

    play(body)


@pytest.mark.parametrize("error", [Unreachable("nobody has it"), EngineFailed("died")])
def test_other_failures_are_shared_but_not_remembered(error: Exception) -> None:
    async def body(host: ScriptedHost, store: AdapterStore) -> None:
        host.fetch_failing[A] = error

        async def fail() -> None:
            with pytest.raises(type(error)):
                await store.ensure(A)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(fail)
        assert host.fetches[A] == 1
        host.fetch_failing.clear()
        await store.ensure(A)
        assert (host.fetches[A], store.counts.failures) == (2, 1)

    play(body)


def test_after_the_engine_was_replaced_adapters_load_again() -> None:
    async def body(host: ScriptedHost, store: AdapterStore) -> None:
        await store.ensure(A)
        host.resident.clear()
        assert (store.is_ready(A), store.ready()) == (False, [])
        await store.ensure(A)
        assert store.ready() == [A]

    play(body)


# ---- bytes


def test_as_many_give_way_as_the_new_one_needs_bytes() -> None:
    async def body(host: ScriptedHost, store: AdapterStore) -> None:
        for adapter in (A, B, C, A):
            await store.ensure(adapter)
        host.ranks[D] = 16
        await store.ensure(D)
        assert store.ready() == [D, A]
        assert host.resident == {A: 80, D: 160}
        assert store.counts.evictions == 2

    play(body, adapters=3)


def test_an_adapter_larger_than_all_memory_is_refused() -> None:
    async def body(host: ScriptedHost, store: AdapterStore) -> None:
        host.ranks[A] = 32
        with pytest.raises(Refused, match="take 320 bytes; this worker has 160"):
            await store.ensure(A)
        await store.ensure(B)
        assert store.ready() == [B]

    play(body)


def test_a_composition_waits_until_all_of_it_has_room() -> None:
    async def body(host: ScriptedHost, store: AdapterStore) -> None:
        async with trio.open_nursery() as nursery, store.lease((A,)) as prepare:
            await prepare()
            host.ranks[B] = 16
            nursery.start_soon(store.ensure, B)
            await trio.sleep(60)
            assert set(host.resident) == {A}
        assert set(host.resident) == {B}

    play(body)


def test_a_file_that_the_disk_has_lost_meanwhile_is_fetched_once_more() -> None:
    async def body(host: ScriptedHost, store: AdapterStore) -> None:
        host.lost.add(A)
        await store.ensure(A)
        assert (host.fetches[A], store.is_ready(A), store.counts.failures) == (2, True, 0)

    play(body)


def test_there_is_room_while_the_largest_adapter_would_fit() -> None:
    async def body(_host: ScriptedHost, store: AdapterStore) -> None:
        assert store.has_room()
        await store.ensure(A)
        assert store.has_room()
        await store.ensure(B)
        assert not store.has_room()

    play(body, adapters=9)


def test_an_adapter_that_left_while_another_was_fetched_is_brought_back() -> None:
    """The lease was not pinned yet, so the engine's replacement took what was ready."""

    async def body(host: ScriptedHost, store: AdapterStore) -> None:
        await store.ensure(A)
        async with trio.open_nursery() as nursery, store.lease((A, B)) as prepare:
            nursery.start_soon(prepare)
            await trio.sleep(0.5)
            host.resident.clear()
            await trio.sleep(10)
            assert set(host.resident) == {A, B}

    play(body)
