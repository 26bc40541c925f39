import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonlore.simulations.modelled.kernel import Alarm, Kernel


@given(st.lists(st.integers(0, 20)))
def test_time_order_then_plan_order(times):
    kernel, seen = Kernel(), []
    for number, time_us in enumerate(times):
        kernel.at(time_us, lambda *event: seen.append((kernel.now_us, *event)), number)
    kernel.run()
    assert seen == sorted((time_us, number) for number, time_us in enumerate(times))
    assert kernel.events == len(times)


def test_events_plan_events_and_the_past_is_now():
    kernel, seen = Kernel(), []

    def again(left):
        seen.append(kernel.now_us)
        if left:
            kernel.after(10, again, left - 1)
            kernel.at(0, seen.append, "now")

    kernel.at(5, again, 2)
    kernel.run()
    assert seen == [5, "now", 15, "now", 25]


def test_run_until_keeps_the_rest():
    kernel, seen = Kernel(), []
    for time_us in (1_000, 2_500):
        kernel.at(time_us, seen.append, time_us)
    kernel.run(until_us=2_000)
    assert (seen, kernel.now_us, kernel.now_ms) == ([1_000], 2_000, 2)
    kernel.run()
    assert seen == [1_000, 2_500]


def test_an_alarm_rings_only_as_set_last():
    kernel, rung = Kernel(), []
    alarm = Alarm(kernel, lambda: rung.append(kernel.now_us))
    alarm.set(10)
    alarm.set(30)
    alarm.set(20)
    kernel.run()
    assert rung == [20]
    alarm.set(40)
    alarm.clear()
    kernel.run()
    assert rung == [20]
    alarm.set(50)
    kernel.run()
    assert rung == [20, 50]


def test_who_returns_a_delay_is_called_again_with_the_same():
    kernel, seen = Kernel(), []

    def act(name, waits):
        seen.append((kernel.now_us, name))
        return waits.pop() if waits else None

    kernel.at(5, act, "a", [7_000_000, 10])
    kernel.at(15, act, "b", [])
    kernel.run()
    assert seen == [(5, "a"), (15, "b"), (15, "a"), (7_000_015, "a")]
    assert (kernel.events, kernel.next_us()) == (4, None)


def test_order_holds_while_buckets_are_divided_and_joined():
    """Three thousand at one time, a dense second, then an hour with little in it."""
    kernel, seen, draw = Kernel(), [], random.Random(1)
    times = [7] * 3_000 + [draw.randrange(1_000_000) for _ in range(3_000)]
    times += [draw.randrange(3_600_000_000) for _ in range(6_000)]

    def act(number):
        seen.append((kernel.now_us, number))
        return 90_000_000 if number < 0 and kernel.now_us < 1 << 31 else None

    for number, time_us in enumerate(times):
        kernel.at(time_us, act, number)
    kernel.at(0, act, -1)
    bits = set()
    for until_us in (100, 500_000, 1_000_000, 600_000_000, 1_800_000_000, 3_700_000_000):
        kernel.run(until_us)
        bits.add(kernel._bits)
    assert seen == sorted(seen, key=lambda each: each[0])
    first = [number for time_us, number in seen if time_us == 7]
    assert first == list(range(3_000))
    assert len(seen) == kernel.events == len(times) + 25
    assert len(bits) > 2, "short buckets and long ones"


def test_an_event_that_fails_is_not_run_again():
    kernel, seen = Kernel(), []
    kernel.at(1, seen.append, "before")
    kernel.at(2, lambda: 1 / 0)
    kernel.at(3, seen.append, "after")
    with pytest.raises(ZeroDivisionError):
        kernel.run()
    kernel.run()
    assert seen == ["before", "after"]
