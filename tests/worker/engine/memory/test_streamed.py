from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from commonlore.worker.engine.memory.streamed import HUGE_PAGE, Arena, Scratch, find_ahead, fresh, zeros


def test_fresh_memory_is_zero_and_begins_at_a_huge_page() -> None:
    found = zeros((3, 1000), torch.bfloat16)
    assert found.shape == (3, 1000)
    assert found.dtype == torch.bfloat16
    assert not found.any()
    assert found.data_ptr() % HUGE_PAGE == 0


def test_kept_tensors_are_copies_side_by_side() -> None:
    arena = Arena()
    first, second = torch.arange(5), torch.rand(3, 7)
    kept = arena.keep(first), arena.keep(second.t())
    first[0] = 9
    assert kept[0].tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(kept[1], second.t())
    assert kept[1].is_contiguous()
    assert kept[1].data_ptr() - kept[0].data_ptr() == 64


def test_one_larger_than_a_chunk_has_a_chunk_of_its_own() -> None:
    arena = Arena()
    large = torch.ones(70 << 20, dtype=torch.uint8)
    assert torch.equal(arena.keep(large), large)
    assert arena.keep(torch.ones(3)).tolist() == [1, 1, 1]


def test_more_than_there_can_be_is_a_memory_error() -> None:
    with pytest.raises(MemoryError, match="no memory for"):
        zeros((1 << 60,), torch.uint8)


def test_memory_that_is_found_ahead_keeps_its_numbers_and_is_resident() -> None:
    tensor = zeros((3, 1 << 20), torch.int32)
    tensor[1, 5] = 7
    find_ahead(tensor[1]).result()
    assert int(tensor[1].sum()) == 7
    if sys.platform == "linux":
        assert tensor[1].nbytes <= _resident_near(tensor[1]) < tensor.nbytes


def _resident_near(tensor: torch.Tensor) -> int:
    """Bytes in memory of the mapping that this tensor lies in."""
    mapping = ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split(maxsplit=1)[0]
        if "-" in head:
            start, end = (int(part, 16) for part in head.split("-"))
            mapping = head if start <= tensor.data_ptr() < end else ""
        elif mapping and head == "Rss:":
            return 1024 * int(line.split()[1])
    raise AssertionError("no mapping holds it")


def test_lent_bytes_are_kept_and_a_second_reader_gets_others() -> None:
    scratch = Scratch()
    with scratch.lend() as allocate, scratch.lend() as other:
        first, second = allocate(1000), other(1000)
        assert not np.shares_memory(first, second)
    with scratch.lend() as allocate:
        assert np.shares_memory(allocate(10), first)
        assert len(allocate(2000)) == 2000


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [0, 1, 1000])
def test_fresh_memory_is_zero_and_as_long_as_it_should_be(size: int, dtype: torch.dtype) -> None:
    found = fresh(size, dtype)
    assert found.shape == (size,)
    assert found.dtype == dtype
    assert not found.any()
