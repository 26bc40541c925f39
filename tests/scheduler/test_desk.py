"""Asks that wait: a long line looks no more often than a short one."""

from dataclasses import replace

import pytest

from commonlore.scheduler.core import Scheduler, SchedulerConfig
from commonlore.scheduler.desk import LINE_MS, POLL_MS
from commonlore.scheduler.events import AdvertSeen, AskArrived, Dispatch, Tick, Wake

WORKERS, SPAN_MS = 50, 500


@pytest.mark.parametrize(("asks", "looks_per_s"), [(200, 1_000 // LINE_MS), (3_000, 1_000)])
def test_a_long_line_before_workers_that_rest_costs_little(worker, ask, now_ms, asks, looks_per_s):
    scheduler = Scheduler(SchedulerConfig(backlog=0), 1)  # who has rested is full
    router, looks = scheduler._router, []
    draw = router.policy.draw
    router.policy = replace(router.policy, draw=lambda query: looks.append(query.now_ms) or draw(query))
    for number in range(WORKERS):
        each = worker(number)
        scheduler.step(now_ms, AdvertSeen(each))
        scheduler.view.member(each.peer).standing.not_before_ms = now_ms + 10 * (number + 1)
    wake_ms = now_ms
    for number in range(asks):
        for action in scheduler.step(now_ms, AskArrived(ask(number))):
            wake_ms = action.at_ms if isinstance(action, Wake) else wake_ms
    looks.clear()
    while wake_ms <= now_ms + SPAN_MS:
        (wake,) = [each for each in scheduler.step(wake_ms, Tick()) if isinstance(each, Wake)]
        wake_ms = wake.at_ms
    assert 0 < len(looks) <= 2 * looks_per_s * SPAN_MS // 1_000


def test_one_of_a_long_line_that_finds_a_worker_hurries_the_next(worker, ask, now_ms):
    scheduler, rested_ms = Scheduler(SchedulerConfig(backlog=100), 1), now_ms + 10
    scheduler.step(now_ms, AdvertSeen(worker(0)))
    peer = next(iter(scheduler.view)).peer
    scheduler.view.member(peer).standing.not_before_ms = rested_ms
    asks = 2 * POLL_MS // LINE_MS
    for number in range(asks):
        scheduler.step(now_ms, AskArrived(ask(number)))
    sent = [
        each.ask_id
        for later_ms in range(100)
        for each in scheduler.step(rested_ms + later_ms, Tick())
        if isinstance(each, Dispatch)
    ]
    assert len(sent) >= 90
