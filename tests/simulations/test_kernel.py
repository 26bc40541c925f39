from hypothesis import given
from hypothesis import strategies as st

from commonlore.simulations.kernel import Alarm, Kernel


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
