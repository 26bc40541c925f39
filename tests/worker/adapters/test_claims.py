"""Who gets bytes of RAM, and when, in trio's virtual time."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from commonlore.protocol.errors import Refused
from commonlore.protocol.ids import Cid, cid_of
from commonlore.worker.adapters.claims import MAX_OVERTAKEN, Claims

A, B, C, BIG = (cid_of(name) for name in (b"a", b"b", b"c", b"big"))


def play(body: Callable[[Claims], Awaitable[None]], limit: int = 100) -> None:
    async def main() -> None:
        with trio.fail_after(3600):
            await body(Claims(limit))

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def use(claims: Claims, sizes: Mapping[Cid, int], seconds: float, done: list[frozenset[Cid]]) -> None:
    await claims.take(sizes)
    try:
        await trio.sleep(seconds)
        done.append(frozenset(sizes))
    finally:
        claims.release(sizes.keys())


def test_one_that_fits_does_not_wait_behind_one_that_does_not() -> None:
    async def body(claims: Claims) -> None:
        await claims.take({A: 50})
        async with trio.open_nursery() as nursery:
            done: list[frozenset[Cid]] = []
            nursery.start_soon(use, claims, {BIG: 90}, 1, done)
            await wait_all_tasks_blocked()
            nursery.start_soon(use, claims, {B: 50}, 1, done)
            await trio.sleep(10)
            assert done == [{B}]
            assert BIG not in claims
            claims.release({A})
        assert done == [{B}, {BIG}]

    play(body)


def test_one_that_was_overtaken_often_is_next() -> None:
    async def body(claims: Claims) -> None:
        done: list[frozenset[Cid]] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use, claims, {A: 50}, 1, done)
            await wait_all_tasks_blocked()
            nursery.start_soon(use, claims, {BIG: 90}, 1, done)
            for number in range(3 * MAX_OVERTAKEN):  # always two at once, so that BIG finds no room
                await trio.sleep(0.5)
                nursery.start_soon(use, claims, {cid_of(bytes([number])): 50}, 1, done)
        assert len(done) == 3 * MAX_OVERTAKEN + 2
        assert done.index(frozenset({BIG})) <= MAX_OVERTAKEN + 2

    play(body)


def test_what_is_always_in_use_does_not_keep_out_another_for_ever() -> None:
    async def body(claims: Claims) -> None:
        done: list[frozenset[Cid]] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use, claims, {A: 50}, 1, done)
            await wait_all_tasks_blocked()
            nursery.start_soon(use, claims, {BIG: 90}, 1, done)
            for _ in range(3 * MAX_OVERTAKEN):
                await trio.sleep(0.5)
                nursery.start_soon(use, claims, {A: 50}, 1, done)
        assert done.index(frozenset({BIG})) <= MAX_OVERTAKEN + 2

    play(body)


def test_when_one_that_nobody_may_pass_leaves_the_others_go_on() -> None:
    async def body(claims: Claims) -> None:
        done: list[frozenset[Cid]] = []
        await claims.take({A: 50})
        async with trio.open_nursery() as nursery, trio.open_nursery() as leaving:
            leaving.start_soon(use, claims, {BIG: 90}, 1, done)
            await wait_all_tasks_blocked()
            for _ in range(MAX_OVERTAKEN):
                await claims.take({B: 10})
                claims.release({B})
            nursery.start_soon(use, claims, {B: 10}, 1, done)
            await trio.sleep(10)
            assert done == []
            leaving.cancel_scope.cancel()
        assert done == [{B}]

    play(body)


def test_a_claim_granted_to_one_that_is_leaving_is_given_back() -> None:
    async def body(claims: Claims) -> None:
        await claims.take({A: 50})
        async with trio.open_nursery() as leaving:
            leaving.start_soon(use, claims, {BIG: 90}, 1, [])
            await wait_all_tasks_blocked()
            claims.release({A})
            assert BIG in claims
            leaving.cancel_scope.cancel()
        await claims.take({B: 100})

    play(body)


def test_more_than_there_can_be_is_refused_and_nothing_never_waits() -> None:
    async def body(claims: Claims) -> None:
        with pytest.raises(Refused, match="take 101 bytes; this worker has 100"):
            await claims.take({A: 50, B: 51})
        await claims.take({A: 100})
        await claims.take({})

    play(body)


def test_claims_of_all_sorts_end_and_never_exceed_the_limit() -> None:
    sizes = {cid_of(bytes([number])): 5 * 2 ** (number % 4) for number in range(12)}

    async def body(claims: Claims) -> None:
        chance = random.Random(5)
        present: list[Cid] = []

        async def ask(adapters: list[Cid], seconds: float) -> None:
            wanted = {adapter: sizes[adapter] for adapter in adapters}
            with trio.move_on_after(chance.choice((3, 1000))):
                await claims.take(wanted)
                present.extend(adapters)
                assert sum(sizes[adapter] for adapter in set(present)) <= 100
                assert all(adapter in claims for adapter in adapters)
                try:
                    await trio.sleep(seconds)
                finally:
                    for adapter in adapters:
                        present.remove(adapter)
                    claims.release(wanted.keys())

        async with trio.open_nursery() as nursery:
            for _ in range(300):
                nursery.start_soon(
                    ask, chance.sample(sorted(sizes), chance.choice((1, 1, 2))), chance.random()
                )
                await trio.sleep(chance.random() / 4)
        assert not any(adapter in claims for adapter in sizes)

    play(body)
