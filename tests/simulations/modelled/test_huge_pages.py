"""Memory keeps its contents when it is put into huge pages."""

import sys

import pytest

from commonlore.simulations.modelled.huge_pages import HUGE, _ranges, use_huge_pages


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
def test_what_is_in_memory_stays():
    kept = [bytearray(number.to_bytes(4, "big") * 1_000) for number in range(4_000)]
    ranges = [*_ranges()]
    assert sum(end - start for start, end in ranges) > 4 * HUGE
    assert all(start % HUGE == end % HUGE == 0 for start, end in ranges)
    assert use_huge_pages() >= 0
    assert all(each == number.to_bytes(4, "big") * 1_000 for number, each in enumerate(kept))


def test_elsewhere_nothing_is_done(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert use_huge_pages() == 0
