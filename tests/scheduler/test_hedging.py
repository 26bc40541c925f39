"""A second attempt beside a late one: at most one, only where allowed, and one of them wins."""

import pytest

from commonlore.scheduler.core import Scheduler, SchedulerConfig
from commonlore.scheduler.events import (
    Abandon,
    AdvertSeen,
    AskArrived,
    Cancelled,
    Completed,
    Dispatch,
    Failed,
    GiveUp,
    Progress,
    Tick,
)

LATE_MS = 3_000


@pytest.fixture
def late(worker, ask, now_ms):
    """An ask whose first worker is late: the scheduler, its two workers, and the time."""

    def start(hedge_ppm=1_000_000, asks=1, **changes):
        scheduler = Scheduler(SchedulerConfig(hedge_ppm=hedge_ppm), 1)
        for number in (1, 2):
            scheduler.step(now_ms, AdvertSeen(worker(number, **changes)))
        dispatched = []
        for number in range(asks):
            dispatched += scheduler.step(now_ms, AskArrived(ask(number)))
        (first,) = [each for each in dispatched if isinstance(each, Dispatch) and each.ask_id == 0]
        actions = scheduler.step(now_ms + LATE_MS, Tick())
        return scheduler, first.peer, [each for each in actions if isinstance(each, Dispatch)]

    return start


def outstanding(scheduler, worker):
    return [scheduler.standing(worker(number).peer).outstanding for number in (1, 2)]


def test_a_late_ask_goes_to_a_second_worker_once(late, worker, now_ms):
    scheduler, first, (hedge,) = late()
    assert hedge.hedge
    assert hedge.peer != first
    assert outstanding(scheduler, worker) == [1, 1]
    assert not [a for a in scheduler.step(now_ms + LATE_MS + 10, Tick()) if isinstance(a, Dispatch)]


@pytest.mark.parametrize("settings", [{"hedge_ppm": 0}, {"running": 3}], ids=["off", "busy"])
def test_no_hedge_where_it_is_off_or_nobody_is_idle(late, settings):
    assert late(**settings)[2] == []


@pytest.mark.parametrize("winner", ["first", "second"])
@pytest.mark.parametrize("how", ["progress", "completed"])
def test_the_first_to_have_a_token_wins(late, worker, now_ms, winner, how):
    scheduler, first, (hedge,) = late()
    won, lost = (first, hedge.peer) if winner == "first" else (hedge.peer, first)
    event = Progress(0, won, 1) if how == "progress" else Completed(0, won, 100, 900, 20)
    actions = scheduler.step(now_ms + LATE_MS + 5, event)
    assert Abandon(0, lost) in actions
    late_word = scheduler.step(now_ms + LATE_MS + 6, Failed(0, lost))
    assert not [each for each in late_word if isinstance(each, Dispatch | GiveUp)], "the loser is not heard"
    if how == "progress":
        assert sum(outstanding(scheduler, worker)) == 1
        scheduler.step(now_ms + LATE_MS + 7, Completed(0, won, 100, 900, 20))
    assert len(scheduler) == 0
    assert outstanding(scheduler, worker) == [0, 0]


def test_one_that_fails_leaves_the_other_alone(late, worker, now_ms):
    scheduler, first, (hedge,) = late()
    actions = scheduler.step(now_ms + LATE_MS + 5, Failed(0, first))
    assert not [each for each in actions if isinstance(each, Dispatch | GiveUp)]
    assert sum(outstanding(scheduler, worker)) == 1
    scheduler.step(now_ms + LATE_MS + 9, Completed(0, hedge.peer, 100, 900, 20))
    assert len(scheduler) == 0


@pytest.mark.parametrize("end", ["cancel", "deadline"])
def test_both_end_with_their_ask(late, worker, ask, end, now_ms):
    scheduler, _, _ = late()
    if end == "cancel":
        scheduler.step(now_ms + LATE_MS + 5, Cancelled(0))
    else:
        actions = scheduler.step(ask(0).deadline_ms, Tick())
        assert [each.code for each in actions if isinstance(each, GiveUp)] == ["deadline_exceeded"]
    assert len(scheduler) == 0
    assert outstanding(scheduler, worker) == [0, 0]


def test_hedges_are_a_share_of_the_asks(late):
    assert len(late(hedge_ppm=250_000, asks=4, max_batch=64)[2]) == 1
