"""Asks that wait: a long line looks no more often than a short one."""

from dataclasses import replace

from commonlore.scheduler.core import Scheduler, SchedulerConfig
from commonlore.scheduler.desk import LINE_MS
from commonlore.scheduler.events import AdvertSeen, AskArrived, Tick, Wake

WORKERS, ASKS, SPAN_MS = 50, 200, 500


def test_a_long_line_before_workers_that_rest_costs_little(worker, ask, now_ms):
    scheduler = Scheduler(SchedulerConfig(backlog=0), 1)  # who has rested is full
    router, looks = scheduler._router, []
    draw = router.policy.draw
    router.policy = replace(router.policy, draw=lambda query: looks.append(query.now_ms) or draw(query))
    for number in range(WORKERS):
        each = worker(number)
        scheduler.step(now_ms, AdvertSeen(each))
        scheduler.view.member(each.peer).standing.not_before_ms = now_ms + 10 * (number + 1)
    wake_ms = now_ms
    for number in range(ASKS):
        for action in scheduler.step(now_ms, AskArrived(ask(number))):
            wake_ms = action.at_ms if isinstance(action, Wake) else wake_ms
    looks.clear()
    while wake_ms <= now_ms + SPAN_MS:
        (wake,) = [each for each in scheduler.step(wake_ms, Tick()) if isinstance(each, Wake)]
        wake_ms = wake.at_ms
    assert 0 < len(looks) <= 2 * SPAN_MS // LINE_MS
