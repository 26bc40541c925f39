"""Wall time, chain time, epochs."""

import time

import pytest

from commonlore.peer.clock import ChainClock, ManualClock, WallClock


def test_wall_clock_is_this_machines():
    assert abs(WallClock().now_ms() - time.time() * 1000) < 1_000


def test_chain_time_keeps_the_offset_of_the_newest_block():
    wall = ManualClock(1_000_500)
    chain = ChainClock(wall, genesis=5_000, epoch_length=100)
    assert chain.now() == 1_000
    chain.observe(5_250)
    assert (chain.now(), chain.epoch()) == (5_250, 2)
    wall.advance(49_999)
    assert (chain.now(), chain.epoch()) == (5_299, 2)
    wall.advance(1)
    assert chain.epoch() == 3
    chain.observe(9_000)
    assert chain.epoch() == 40


def test_until_the_chain_is_seen_a_later_epoch_is_taken_on_another_s_word():
    wall = ManualClock(1_000_000)
    chain = ChainClock(wall, genesis=500, epoch_length=100)
    assert not chain.is_seen
    assert not chain.suppose(5)  # it goes by that already
    assert not chain.suppose(4)
    assert chain.suppose(900)
    wall.advance(99_999)
    assert chain.epoch() == 900
    wall.advance(1)
    assert chain.suppose(7)  # who said 900 was wrong
    assert not chain.suppose(5)  # by its own guess it is the sixth
    chain.observe(5_250)
    assert (chain.is_seen, chain.suppose(900), chain.epoch()) == (True, False, 47)


@pytest.mark.parametrize(("seconds", "epoch"), [(0, 0), (4_999, 0), (5_000, 0), (5_099, 0), (5_100, 1)])
def test_epoch_at(seconds, epoch):
    assert ChainClock(ManualClock(0), 5_000, 100).epoch_at(seconds) == epoch
