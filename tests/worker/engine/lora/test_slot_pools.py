"""The memory of slots, and that adapters are read into: when it is found, how much, that it is counted."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import InvalidAdapter, Refused
from commonlore.protocol.ids import Cid
from commonlore.worker.adapters.fake import write_fake_adapter
from commonlore.worker.engine.lora import layout as lora_layout
from commonlore.worker.engine.lora import slot_pools
from commonlore.worker.engine.memory.streamed import find_ahead
from commonlore.worker.engine.types import AdapterSource
from commonlore.worker.models.reference import BaseModel


def test_memory_is_found_once_an_adapter_one_ahead_and_for_no_more_than_can_be_filled(
    build_engine, adapters: list[AdapterSource]
) -> None:
    engine = build_engine(slots=4, adapter_ram=build_engine().facts.packed_bytes(8))
    sizes = engine.facts.packed_bytes
    taken: list[int] = []
    for source in (adapters[0], adapters[0], adapters[1], adapters[0], adapters[3], adapters[4]):
        engine.load_adapter(source)
        taken.append(engine.stats().slot_bytes // sizes(8))
    assert taken == [2, 2, 3, 3, 4, 4]  # read again, or more than there are slots: none is found


def test_a_bucket_whose_slots_are_full_gets_one_more(
    lab, build_engine, adapters: list[AdapterSource]
) -> None:
    engine = build_engine(slots=2)
    sizes = engine.facts.packed_bytes
    engine.load_adapter(adapters[0])
    engine.load_adapter(adapters[1])
    assert engine.stats().slot_bytes == 2 * sizes(8)
    engine.load_adapter(adapters[2])  # the first of rank 16: none of its slots can be filled
    assert engine.stats().slot_bytes == 2 * sizes(8) + sizes(16)
    lab.run(engine, lab.ask("x", adapters=lab.one_adapter(adapters[2])))
    assert engine.stats().slot_bytes == 2 * sizes(8) + sizes(16)
    engine.check_integrity()


def test_a_slot_whose_memory_was_not_found_ahead_is_filled_all_the_same(
    lab, build_engine, tiny: BaseModel, tmp_path: Path, adapters: list[AdapterSource]
) -> None:
    wide = [write_fake_adapter(tmp_path / str(n), tiny.architecture, 16, seed=n) for n in (50, 51)]
    small, large = build_engine(slots=2), build_engine(slots=16)
    for engine in (small, large):
        for source in (*adapters[:2], *wide):
            engine.load_adapter(source)
    sizes = small.facts.packed_bytes
    assert small.stats().slot_bytes == 2 * sizes(8) + sizes(16)
    asked = lab.ask("both", adapters=tuple(AdapterWeight(source.adapter, PPM // 2) for source in wide))
    assert lab.run(small, asked)[0].tokens == lab.run(large, asked)[0].tokens
    assert small.stats().slot_bytes == 2 * sizes(8) + 2 * sizes(16)
    small.check_integrity()


def test_memory_is_there_when_an_adapter_was_read_and_its_numbers_are_left_alone(
    build_engine, adapters: list[AdapterSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    found: list[int] = []

    def find_late(tensor: torch.Tensor) -> Future[None]:
        def find() -> None:
            begun.set()
            go_on.wait()
            find_ahead(tensor).result()
            found.append(tensor.data_ptr())

        return finders.submit(find)

    monkeypatch.setattr(slot_pools, "find_ahead", find_late)
    engine = build_engine(slots=1)
    with ThreadPoolExecutor(1) as finders, ThreadPoolExecutor(1) as readers:
        reading = readers.submit(engine.read_adapter, adapters[0])
        begun.wait()
        pool = engine._adapters.pools.pool(8)
        pool[1].fill_(3)
        assert not reading.done()
        go_on.set()
        reading.result()
        assert found == [pool[1].data_ptr()]
        assert bool(torch.all(pool[1] == 3))


def test_bad_adapters_use_up_no_slots_memory(
    build_engine, tmp_path: Path, adapters: list[AdapterSource]
) -> None:
    engine = build_engine(slots=3)
    size = engine.facts.packed_bytes(8)
    cut = tmp_path / "cut"
    cut.write_bytes(Path(adapters[0].path).read_bytes()[:-1])
    for number in range(5):
        with pytest.raises(InvalidAdapter, match="truncated"):
            engine.read_adapter(replace(adapters[0], path=str(cut), adapter=Cid(f"bad {number}")))
    assert engine.stats().slot_bytes == size
    engine.load_adapter(adapters[0])
    assert engine.stats().slot_bytes == 2 * size


def test_an_adapter_that_finds_no_memory_is_refused_and_may_come_again(
    build_engine, adapters: list[AdapterSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = build_engine()

    def find_none(size: int, dtype: torch.dtype) -> torch.Tensor:
        raise MemoryError

    with monkeypatch.context() as poor:
        poor.setattr(lora_layout, "fresh", find_none)
        with pytest.raises(Refused, match="no memory to read the adapter"):
            engine.load_adapter(adapters[0])
    engine.load_adapter(adapters[0])
    engine.check_integrity()


def test_what_the_next_adapters_are_read_into_is_counted(build_engine, adapters: list[AdapterSource]) -> None:
    engine = build_engine()
    spares = sum(engine.facts.packed_bytes(rank) for rank in (8, 16))
    largest = max(Path(source.path).stat().st_size for source in adapters)
    for _ in range(2):
        for source in adapters:
            engine.load_adapter(source)
            engine.unload(source.adapter)
        assert engine.stats().spare_bytes == spares + largest
