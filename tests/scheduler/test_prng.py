from hypothesis import given
from hypothesis import strategies as st

from commonlore.scheduler.prng import Prng
from commonlore.scheduler.timers import Timers


def test_vectors_of_splitmix64():
    rng = Prng(1234567)  # the widely published outputs for this seed
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [rng.next64() for _ in range(4)] == expected


@given(st.integers(0, 2**64 - 1), st.integers(1, 200), st.integers(0, 20))
def test_draw_is_distinct_and_in_range(seed, bound, count):
    drawn = Prng(seed).draw(bound, count)
    assert len(drawn) == len(set(drawn)) == min(bound, count)
    assert all(0 <= each < bound for each in drawn)


def test_below_reaches_everything_about_equally():
    rng = Prng(3)
    counts = [0] * 5
    for _ in range(5_000):
        counts[rng.below(5)] += 1
    assert min(counts) > 900


def test_timers_move_clear_and_order_ties():
    timers: Timers[str] = Timers()
    for key, due in (("a", 5), ("b", 3), ("c", 5), ("b", 9)):
        timers.set(key, due)
    timers.clear("a")
    assert timers.next_ms() == 5
    assert timers.pop_due(8) == ["c"]
    assert timers.pop_due(9) == ["b"]
    assert timers.next_ms() is None


def test_timers_stay_small_when_one_key_moves_for_ever():
    timers: Timers[int] = Timers()
    for due in range(10_000):
        timers.set(0, due)
    assert len(timers._heap) < 200
    assert timers.pop_due(10_000) == [0]
