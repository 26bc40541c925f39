from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from commonlore.protocol.ids import PeerId
from commonlore.scheduler.pools import Pool
from commonlore.scheduler.prng import Prng
from commonlore.scheduler.ring import HOMES, Ring


@dataclass(frozen=True)
class Peer:
    peer: PeerId


def peer(number):
    return Peer(PeerId(f"peer{number}"))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9))))
def test_pool_is_a_set_with_an_order(steps):
    pool, model = Pool(), set()
    for add, number in steps:
        each = PeerId(str(number))
        (pool.add if add else pool.discard)(each)
        (model.add if add else model.discard)(each)
        assert {*pool} == model
        assert {pool[at] for at in range(len(pool))} == model


@given(st.integers(0, 60), st.integers(1, 10), st.integers(0, (1 << 64) - 1))
def test_a_pick_is_distinct_and_as_large_as_can_be(size, count, bits):
    pool = Pool()
    for number in range(size):
        pool.add(number)
    picked = pool.pick(count, bits)
    assert len(picked) == len(set(picked)) == min(size, count)


def test_a_pick_reaches_everything_about_equally():
    pool, rng, counts = Pool(), Prng(1), [0] * 12
    for number in range(12):
        pool.add(number)
    for _ in range(3_000):
        for number in pool.pick(2, rng.next64()):
            counts[number] += 1
    assert min(counts) > 400
    assert max(counts) < 600


def test_ring_moves_only_the_keys_of_the_one_who_left():
    ring = Ring([peer(number) for number in range(20)])
    keys = [f"key{number}" for number in range(500)]
    before = {key: ring.homes(key)[0] for key in keys}
    ring.discard(peer(7))
    moved = [key for key in keys if ring.homes(key)[0] != before[key]]
    assert moved == [key for key in keys if before[key] == peer(7)]
    assert len(ring.homes("x")) == len({*ring.homes("x")}) == HOMES


@given(st.lists(st.integers(0, 400), unique=True, max_size=200), st.data())
def test_a_ring_that_grew_and_shrank_is_the_ring_of_who_is_left(numbers, data):
    ring = Ring()
    for number in numbers:
        ring.add(peer(number))
    gone = data.draw(st.lists(st.sampled_from(numbers), unique=True)) if numbers else []
    for number in gone:
        ring.discard(peer(number))
    left = Ring([peer(number) for number in numbers if number not in gone])
    assert [ring.homes(f"key{n}") for n in range(20)] == [left.homes(f"key{n}") for n in range(20)]


def test_a_large_ring_splits_its_arcs():
    grown, built = Ring(), Ring([peer(number) for number in range(1_000)])
    for number in range(1_000):
        grown.add(peer(number))
    assert [grown.homes(str(n)) for n in range(50)] == [built.homes(str(n)) for n in range(50)]
