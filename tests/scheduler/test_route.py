"""Who is asked when none of those that a policy draws may serve."""

import pytest

from commonlore.scheduler.core import Scheduler, SchedulerConfig
from commonlore.scheduler.events import AdvertSeen, AskArrived, Dispatch
from commonlore.scheduler.standing import FOREIGN_LIFE_MS


@pytest.mark.parametrize("seed", range(8))
def test_one_that_was_believed_full_is_asked_where_all_with_room_are_barred(worker, ask, now_ms, seed):
    scheduler = Scheduler(SchedulerConfig(policy="power_of_two", backlog=1), seed)
    roomy = [worker(number) for number in range(1, 41)]
    full = worker(99, running=4)
    for each in (*roomy, full):
        scheduler.step(now_ms, AdvertSeen(each))
    assert full.peer not in {each.peer for each in scheduler.view.field(full.base).roomy}
    later_ms = now_ms + FOREIGN_LIFE_MS  # what it announced is not believed any more
    spec = ask(1, excluded=tuple(each.peer for each in roomy), deadline_ms=later_ms + 60_000)
    actions = scheduler.step(later_ms, AskArrived(spec))
    assert [each.peer for each in actions if isinstance(each, Dispatch)] == [full.peer]


def test_the_full_are_not_asked_where_somebody_has_room(worker, ask, now_ms):
    scheduler = Scheduler(SchedulerConfig(policy="power_of_two", backlog=1), 1)
    full = [worker(number, running=4) for number in range(1, 41)]
    free = worker(99)
    for each in (*full, free):
        scheduler.step(now_ms, AdvertSeen(each))
    for number in range(4):
        actions = scheduler.step(now_ms, AskArrived(ask(number)))
        assert [each.peer for each in actions if isinstance(each, Dispatch)] == [free.peer]
