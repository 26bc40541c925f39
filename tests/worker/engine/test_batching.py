"""The plan of each step, without a model: what is complete gets the token 9."""

from __future__ import annotations

from collections.abc import Iterator

from commonlore.protocol.requests import Sampling
from commonlore.worker.engine.batching import Batcher, BatchLimits, Work
from commonlore.worker.engine.pages import PageAllocator
from commonlore.worker.engine.prompts import Answer, Prepared
from commonlore.worker.engine.sequence import Sequence
from commonlore.worker.engine.slots import SlotTable
from commonlore.worker.engine.text import TextStream
from commonlore.worker.engine.types import GenerationRequest


def make_batcher(pages: int = 64, max_batch: int = 4, step: int = 16) -> Batcher:
    return Batcher(BatchLimits(max_batch, step, page_size=4), PageAllocator(pages), SlotTable(4))


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
