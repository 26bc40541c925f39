"""The plan of each step, without a model: what is complete gets the token 9."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.ids import cid_of
from commonlore.protocol.requests.records import Sampling
from commonlore.worker.engine.batching.pages import PageAllocator
from commonlore.worker.engine.batching.prompts import Answer, Prepared
from commonlore.worker.engine.batching.sequence import Sequence
from commonlore.worker.engine.batching.slots import SlotTable
from commonlore.worker.engine.batching.steps import Batcher, BatchLimits, Work
from commonlore.worker.engine.batching.text import TextStream
from commonlore.worker.engine.types import GenerationRequest


def make_batcher(pages: int = 64, max_batch: int = 4, step: int = 16, slots: int = 4) -> Batcher:
    return Batcher(BatchLimits(max_batch, step, page_size=4), PageAllocator(pages), SlotTable(slots))


def sequence(prompt: int, number: int = 1, first: int = 0) -> Sequence:
    request = GenerationRequest(number.to_bytes(2, "big"), Sampling(0, 100))
    answer = Answer(request, frozenset(), 1000, TextStream(str, ()))
    return Sequence(Prepared(request, (), answer, None), b"root", list(range(first, first + prompt)))


def steps(batcher: Batcher, count: int) -> Iterator[list[tuple[int, int, int]]]:
    """(request number, start, count) of each step's work."""
    for _ in range(count):
        works = batcher.schedule()
        finish_step(batcher, works)
        yield [
            (int.from_bytes(w.sequence.prepared.request.request_id, "big"), w.start, w.count) for w in works
        ]


def finish_step(batcher: Batcher, works: list[Work]) -> None:
    for work in works:
        batcher.advance(work)
        if not work.sequence.remaining:
            work.sequence.tokens.append(9)
    batcher.check_integrity()


def test_a_long_prompt_is_computed_in_chunks_beside_decoding() -> None:
    batcher = make_batcher()
    batcher.add(sequence(3, number=1))
    assert list(steps(batcher, 1)) == [[(1, 0, 3)]]
    batcher.add(sequence(40, number=2, first=100))
    assert list(steps(batcher, 4)) == [
        [(1, 3, 1), (2, 0, 15)],
        [(1, 4, 1), (2, 15, 15)],
        [(1, 5, 1), (2, 30, 10)],
        [(1, 6, 1), (2, 40, 1)],
    ]


def test_a_prompt_seen_before_is_computed_from_its_last_full_page_on() -> None:
    batcher = make_batcher()
    first = sequence(13, number=1)
    batcher.add(first)
    list(steps(batcher, 2))
    batcher.remove(first)
    second = sequence(13, number=2)
    batcher.add(second)
    assert list(steps(batcher, 1)) == [[(2, 12, 1)]]
    assert (second.cached, batcher.cached_tokens) == (12, 12)


def test_the_last_token_of_a_prompt_is_always_computed() -> None:
    batcher = make_batcher()
    for number in (1, 2):
        batcher.add(sequence(12, number))
        list(steps(batcher, 1))
    assert batcher.running[1].cached == 8


def test_no_more_run_than_the_batch_holds() -> None:
    batcher = make_batcher(max_batch=2)
    for number in (1, 2, 3):
        batcher.add(sequence(2, number, first=10 * number))
    assert list(steps(batcher, 1)) == [[(1, 0, 2), (2, 0, 2)]]
    batcher.remove(batcher.running[0])
    assert [number for number, _, _ in next(steps(batcher, 1))] == [2, 3]


def test_when_pages_run_out_the_youngest_gives_way_and_comes_back() -> None:
    batcher = make_batcher(pages=8)  # 7 of 4 tokens
    old, young = sequence(11, number=1), sequence(11, number=2, first=50)
    batcher.add(old)
    batcher.add(young)
    list(steps(batcher, 8))
    assert batcher.preemptions == 1
    assert list(batcher.waiting) == [young]
    generated = len(young.tokens)
    assert generated > 11
    batcher.remove(old)
    assert next(steps(batcher, 1))[0][0] == 2
    assert len(young.tokens) == generated + 1


def test_nobody_is_admitted_whose_pages_would_starve_the_running() -> None:
    batcher = make_batcher(pages=8)
    batcher.add(sequence(20, number=1))
    list(steps(batcher, 2))
    batcher.add(sequence(8, number=2, first=50))
    assert [number for number, _, _ in next(steps(batcher, 1))] == [1]


def test_removing_a_waiting_sequence_costs_nothing() -> None:
    batcher = make_batcher()
    waiting = sequence(5)
    batcher.add(waiting)
    batcher.remove(waiting)
    assert batcher.schedule() == []
    assert batcher.pages.available == 63


# ---- slots


def adapted(number: int, *names: str, prompt: int = 3, first: int | None = None) -> Sequence:
    """A sequence under these adapters; its prompt is like no other's."""
    found = sequence(prompt, number, 1000 * number if first is None else first)
    weights = tuple(AdapterWeight(cid_of(name.encode()), PPM // len(names)) for name in names)
    request = replace(found.prepared.request, adapters=weights)
    return replace(found, prepared=replace(found.prepared, request=request))


def batcher_with(slots: int, names: str, **limits: int) -> Batcher:
    batcher = make_batcher(slots=slots, **limits)
    for name in names:
        batcher.slots.add(cid_of(name.encode()), 8)
    return batcher


def running(batcher: Batcher) -> list[int]:
    return [int.from_bytes(one.prepared.request.request_id, "big") for one in batcher.running]


def end(batcher: Batcher, number: int) -> None:
    (one,) = [s for s in batcher.running if s.prepared.request.request_id == number.to_bytes(2, "big")]
    batcher.remove(one)


def test_no_more_adapters_run_than_there_are_slots() -> None:
    batcher = batcher_with(2, "abc")
    for number, name in enumerate("abc", 1):
        batcher.add(adapted(number, name))
    list(steps(batcher, 2))
    assert running(batcher) == [1, 2]
    end(batcher, 1)
    list(steps(batcher, 1))
    assert running(batcher) == [2, 3]


def test_who_finds_no_slot_holds_up_nobody_who_needs_none() -> None:
    batcher = batcher_with(2, "abc")
    for number, names in enumerate(("a", "b", "c", "", "b"), 1):
        batcher.add(adapted(number, *names))
    list(steps(batcher, 2))
    # c waits; the base and a second b may run beside it, since it is a whose end c waits for
    assert running(batcher) == [1, 2, 4, 5]


def test_the_adapter_whose_end_another_waits_for_gets_no_new_sequences() -> None:
    batcher = batcher_with(1, "ab")
    batcher.add(adapted(1, "a"))
    list(steps(batcher, 1))
    batcher.add(adapted(2, "b"))
    for number in range(3, 6):
        batcher.add(adapted(number, "a"))
    list(steps(batcher, 3))
    assert running(batcher) == [1]
    end(batcher, 1)
    list(steps(batcher, 1))
    assert running(batcher) == [2]


def test_free_slots_gather_for_a_composition() -> None:
    batcher = batcher_with(2, "abcd")
    batcher.add(adapted(1, "a"))
    batcher.add(adapted(2, "b", prompt=9))
    list(steps(batcher, 1))
    batcher.add(adapted(3, "c", "d", prompt=1))
    for number in range(4, 8):
        batcher.add(adapted(number, "a"))
    end(batcher, 1)
    list(steps(batcher, 2))
    assert running(batcher) == [2]  # one slot is free and stays so
    end(batcher, 2)
    list(steps(batcher, 1))
    assert running(batcher) == [3]


def test_a_hot_adapter_and_a_cold_one_share_the_slots() -> None:
    batcher = batcher_with(1, "hc", max_batch=2)
    for number in range(1, 21):
        batcher.add(adapted(number, "h"))
    batcher.add(adapted(99, "c"))
    order: list[int] = []
    while batcher.running or batcher.waiting:
        list(steps(batcher, 1))
        order += [number for number in running(batcher) if number not in order]
        batcher.remove(batcher.running[0])
    assert len(order) == 21
    assert order.index(99) <= 3


def test_a_preempted_sequence_gets_its_slot_back_before_all_others() -> None:
    batcher = batcher_with(1, "ab", pages=8)
    first, second = adapted(1, "a", prompt=11), adapted(2, "a", prompt=11)
    batcher.add(first)
    batcher.add(second)
    list(steps(batcher, 1))
    batcher.add(adapted(3, "b", prompt=1))
    list(steps(batcher, 7))
    assert (batcher.preemptions, running(batcher)) == (1, [1])
    end(batcher, 1)
    list(steps(batcher, 1))
    assert running(batcher) == [2]


def test_more_adapters_than_slots_all_get_their_turn() -> None:
    """Under a stream of single requests for 32 adapters and 4 slots nobody waits out of all proportion."""
    names = [f"n{number}" for number in range(32)]
    batcher = make_batcher(slots=4, max_batch=8, pages=256)
    for name in names:
        batcher.slots.add(cid_of(name.encode()), 8)
    waits: list[int] = []
    born: dict[int, int] = {}
    for step in range(2000):
        if step % 4 == 0 and step < 1600:
            born[step] = step
            batcher.add(adapted(step, names[(step * step) % 32], prompt=2))
        list(steps(batcher, 1))
        for one in list(batcher.running):
            number = int.from_bytes(one.prepared.request.request_id, "big")
            if number in born:
                waits.append(step - born.pop(number))
            if len(one.tokens) >= 12:
                batcher.remove(one)
    assert not batcher.waiting
    assert not batcher.running
    assert len(waits) == 400
    assert max(waits) <= 40


# ---- readers that are behind


def test_one_that_is_held_leaves_its_place_and_goes_on_without_computing_anything_again() -> None:
    batcher = make_batcher(max_batch=1)
    slow, other = sequence(6, number=1), sequence(5, number=2, first=50)
    batcher.add(slow)
    batcher.add(other)
    assert list(steps(batcher, 2)) == [[(1, 0, 6)], [(1, 6, 1)]]
    batcher.hold(slow, True)
    assert list(steps(batcher, 2)) == [[(2, 0, 5)], [(2, 5, 1)]]
    batcher.add(sequence(5, number=3, first=70))
    batcher.hold(slow, False)
    batcher.remove(other)
    assert next(steps(batcher, 1)) == [(1, 7, 1)]  # before the third
    assert batcher.preemptions == 0


def test_one_that_is_held_leaves_its_slot() -> None:
    batcher = batcher_with(1, "ab")
    slow = adapted(1, "a")
    batcher.add(slow)
    batcher.add(adapted(2, "b"))
    list(steps(batcher, 1))
    batcher.hold(slow, True)
    list(steps(batcher, 1))
    assert running(batcher) == [2]
    batcher.hold(slow, False)
    list(steps(batcher, 1))
    assert running(batcher) == [2]
    end(batcher, 2)
    list(steps(batcher, 1))
    assert running(batcher) == [1]


@pytest.mark.parametrize("resumed", [False, True])
def test_pages_of_one_that_does_not_run_are_taken_before_one_that_does_gives_way(resumed: bool) -> None:
    batcher = make_batcher(pages=8, max_batch=1)  # 7 of 4 tokens
    slow, other = sequence(10, number=1), sequence(9, number=2, first=50)
    batcher.add(slow)
    batcher.add(other)
    list(steps(batcher, 2))
    batcher.hold(slow, True)
    list(steps(batcher, 1))
    batcher.hold(slow, not resumed)
    list(steps(batcher, 12))
    assert (batcher.running, slow.table, batcher.preemptions) == ([other], [], 1)
    batcher.remove(other)
    batcher.hold(slow, False)
    work = batcher.schedule()[0]
    assert (work.sequence, work.start + work.count) == (slow, 12)


def test_one_starts_in_the_pages_of_one_that_is_held() -> None:
    batcher = make_batcher(pages=8)
    slow = sequence(20, number=1)
    batcher.add(slow)
    list(steps(batcher, 3))
    batcher.hold(slow, True)
    batcher.add(sequence(15, number=2, first=50))
    assert next(steps(batcher, 1)) == [(2, 0, 15)]
    assert slow.table == []


def test_a_held_one_that_never_ran_waits_in_line_again() -> None:
    batcher = make_batcher(max_batch=1)
    first, second = sequence(3, number=1), sequence(3, number=2, first=50)
    batcher.add(first)
    batcher.add(second)
    batcher.hold(first, True)
    batcher.hold(first, True)
    batcher.hold(first, False)
    assert next(steps(batcher, 1)) == [(2, 0, 3)]
    batcher.remove(first)
    batcher.remove(second)
    batcher.check_integrity()


def test_whatever_is_held_goes_on_or_ends_every_sequence_comes_to_its_end() -> None:
    chance = random.Random(3)
    batcher = batcher_with(2, "abcd", pages=24, max_batch=3)
    here: list[Sequence] = []
    ended = 0
    for step in range(1500):
        if step < 1000 and step % 3 == 0:
            name = chance.choice("abcd")
            here.append(adapted(step, name, prompt=chance.randrange(1, 30)))
            batcher.add(here[-1])
        for one in list(here):
            if len(one.tokens) > 40 or chance.random() < 0.005:
                batcher.remove(one)
                here.remove(one)
                ended += 1
            elif step >= 1000 or chance.random() < 0.1:
                batcher.hold(one, step < 1000 and chance.random() < 0.4)
        list(steps(batcher, 1))
    assert (ended, here, batcher.parked, len(batcher.waiting)) == (334, [], [], 0)
    assert batcher.preemptions > 0
    assert batcher.pages.available == 23
