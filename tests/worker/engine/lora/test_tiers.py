"""RAM and slots of one engine: what is kept, what gives way, and that nothing of it stays behind."""

from __future__ import annotations

import pytest
import torch

from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import Refused
from commonlore.protocol.requests.records import Sampling
from commonlore.worker.engine.batching.slots import Place
from commonlore.worker.engine.torch_engine import TorchEngine
from commonlore.worker.engine.types import AdapterSource


def finish(engine: TorchEngine) -> None:
    while engine.has_work():
        engine.step()


def slot_of(engine: TorchEngine, place: Place) -> torch.Tensor:
    return engine._adapters.pools.pool(place.bucket)[place.slot]


def test_what_ram_holds_is_counted_in_bytes_and_ranks(build_engine, adapters: list[AdapterSource]) -> None:
    engine = build_engine()
    for source in adapters:
        engine.load_adapter(source)
    stats, sizes = engine.stats(), engine.facts.packed_bytes
    assert {one.adapter: one.rank for one in stats.resident} == {one.adapter: one.rank for one in adapters}
    assert [(one.bucket, one.count) for one in stats.ranks] == [(8, 4), (16, 1)]
    assert stats.adapter_bytes == 4 * sizes(8) + sizes(16)
    engine.unload(adapters[2].adapter)
    assert engine.stats().adapter_bytes == 4 * sizes(8)
    engine.check_integrity()


def test_the_least_recently_used_makes_room(lab, build_engine, adapters: list[AdapterSource]) -> None:
    engine = build_engine(adapter_ram=2 * build_engine().facts.packed_bytes(8))
    for source in (adapters[0], adapters[1]):
        engine.load_adapter(source)
    lab.run(engine, lab.ask("x", adapters=lab.one_adapter(adapters[0])))
    engine.load_adapter(adapters[3])
    assert [one.adapter for one in engine.stats().resident] == [adapters[3].adapter, adapters[0].adapter]
    engine.load_adapter(adapters[0])  # it is here: nobody gives way
    assert len(engine.stats().resident) == 2


def test_what_a_request_names_stays_in_ram_while_it_waits(
    lab, build_engine, adapters: list[AdapterSource]
) -> None:
    engine = build_engine(adapter_ram=build_engine().facts.packed_bytes(8), max_batch=1)
    engine.load_adapter(adapters[0])
    engine.add(engine.prepare(lab.ask("first", 1)))
    engine.step()
    engine.add(engine.prepare(lab.ask("waits", 2, adapters=lab.one_adapter(adapters[0]))))
    with pytest.raises(Refused, match="in use"):
        engine.unload(adapters[0].adapter)
    with pytest.raises(Refused, match="does not fit"):
        engine.load_adapter(adapters[1])
    engine.abort(lab.ask("", 2).request_id)
    engine.load_adapter(adapters[1])
    finish(engine)
    engine.check_integrity()


def test_a_slot_is_taken_when_a_sequence_starts_and_zeroed_when_another_needs_it(
    lab, build_engine, adapters: list[AdapterSource]
) -> None:
    engine = build_engine(slots=1)
    for source in (adapters[0], adapters[2]):
        engine.load_adapter(source)
    assert not any(one.in_slot for one in engine.stats().resident)
    lab.run(engine, lab.ask("x", adapters=lab.one_adapter(adapters[0])))
    assert [one.adapter for one in engine.stats().resident if one.in_slot] == [adapters[0].adapter]
    assert slot_of(engine, Place(8, 1)).any()
    lab.run(engine, lab.ask("x", adapters=lab.one_adapter(adapters[2])))
    assert [one.adapter for one in engine.stats().resident if one.in_slot] == [adapters[2].adapter]
    assert not slot_of(engine, Place(8, 1)).any()
    engine.unload(adapters[2].adapter)
    assert not slot_of(engine, Place(16, 1)).any()
    stats = engine.stats()
    assert (stats.slot_fills, stats.slot_evictions) == (2, 2)
    assert stats.slot_fill_ns > 0


def test_a_pool_never_moves(lab, build_engine, adapters: list[AdapterSource]) -> None:
    engine = build_engine(slots=2)
    engine.load_adapter(adapters[0])
    address = engine._adapters.pools.pool(8).data_ptr()
    for source in adapters:
        engine.load_adapter(source)
        lab.run(engine, lab.ask("x", adapters=lab.one_adapter(source)))
    assert engine._adapters.pools.pool(8).data_ptr() == address


def test_answers_are_the_same_before_and_after_eviction_and_reload(
    lab, build_engine, engine: TorchEngine, adapters: list[AdapterSource]
) -> None:
    requests = [
        lab.ask(f"number {n}", n, adapters=lab.one_adapter(source)) for n, source in enumerate(adapters)
    ]
    expected = [said.tokens for said in lab.run(engine, *requests)]
    small = build_engine(slots=2, adapter_ram=2 * engine.facts.packed_bytes(16))
    for _ in range(2):
        for source, request, tokens in zip(adapters, requests, expected, strict=True):
            small.load_adapter(source)
            assert lab.run(small, request)[0].tokens == tokens
    assert small.stats().slot_evictions >= 8


def test_few_slots_change_nothing_but_the_order(
    lab, build_engine, engine: TorchEngine, adapters: list[AdapterSource]
) -> None:
    half = (AdapterWeight(adapters[0].adapter, PPM // 2), AdapterWeight(adapters[2].adapter, PPM // 2))
    requests = [
        lab.ask(f"number {n}", n, adapters=() if n % 7 == 6 else lab.one_adapter(adapters[n % 5]))
        for n in range(14)
    ]
    requests.append(lab.ask("both", 99, adapters=half))
    expected = [said.tokens for said in lab.run(engine, *requests)]
    small = build_engine(slots=2)
    for source in adapters:
        small.load_adapter(source)
    assert [said.tokens for said in lab.run(small, *requests)] == expected
    assert small.stats().slot_evictions > 0


def test_more_adapters_in_one_request_than_slots_are_refused(
    lab, build_engine, adapters: list[AdapterSource]
) -> None:
    engine = build_engine(slots=1)
    for source in adapters[:2]:
        engine.load_adapter(source)
    half = tuple(AdapterWeight(source.adapter, PPM // 2) for source in adapters[:2])
    with pytest.raises(Refused, match="composes 2 adapters; this engine has 1 slots"):
        engine.add(engine.prepare(lab.ask("x", adapters=half)))


def test_a_preempted_request_goes_on_after_its_adapter_has_lost_its_slot(
    lab, build_engine, engine: TorchEngine, adapters: list[AdapterSource]
) -> None:
    requests = [
        lab.ask(f"number {n} " * 9, n, sampling=Sampling(1, 90), adapters=lab.one_adapter(adapters[n % 5]))
        for n in range(6)
    ]
    expected = [said.tokens for said in lab.run(engine, *requests)]
    tight = build_engine(slots=2, pages=16)
    for source in adapters:
        tight.load_adapter(source)
    assert [said.tokens for said in lab.run(tight, *requests)] == expected
    assert tight.stats().preemptions > 0


def test_the_same_name_with_other_content_is_another_adapter(
    lab, build_engine, adapters: list[AdapterSource]
) -> None:
    """An alias is never seen here: what was republished under it has another id, and so other pages."""
    engine = build_engine()
    old, new = adapters[0], adapters[1]
    engine.load_adapter(old)
    first = lab.run(engine, lab.ask("the same question " * 8, adapters=lab.one_adapter(old)))[0]
    engine.unload(old.adapter)
    engine.load_adapter(new)
    second = lab.run(engine, lab.ask("the same question " * 8, adapters=lab.one_adapter(new)))[0]
    assert second.last.cached_tokens == 0
    assert first.tokens != second.tokens
    fresh = build_engine()
    fresh.load_adapter(new)
    again = lab.run(fresh, lab.ask("the same question " * 8, adapters=lab.one_adapter(new)))[0]
    assert again.tokens == second.tokens


def test_numbers_left_in_a_slot_are_found(lab, build_engine, adapters: list[AdapterSource]) -> None:
    engine = build_engine()
    engine.load_adapter(adapters[0])
    lab.run(engine, lab.ask("x", adapters=lab.one_adapter(adapters[0])))
    slot_of(engine, Place(8, 0))[5] = 1.0
    with pytest.raises(AssertionError, match="slot 0 of rank 8 holds numbers of no adapter"):
        engine.check_integrity()
