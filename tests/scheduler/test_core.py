from itertools import pairwise

import pytest

from commonlore.protocol.errors import LocalProtocolError
from commonlore.protocol.gossip.adverts import Rates
from commonlore.protocol.inference.messages import RefusalCode
from commonlore.scheduler.core import Scheduler, SchedulerConfig
from commonlore.scheduler.events import (
    AdvertSeen,
    AskArrived,
    Cancelled,
    Completed,
    Dispatch,
    Failed,
    GiveUp,
    Progress,
    Refused,
    Tick,
    Wake,
)
from commonlore.scheduler.standing import FOREIGN_LIFE_MS


class Driver:
    """Obeys a scheduler in virtual time: keeps the latest Wake, and what became of every ask."""

    def __init__(self, now_ms, config=None, seed=1):
        self.scheduler = Scheduler(config or SchedulerConfig(), seed)
        self.now_ms = now_ms
        self.wake_ms = None
        self.at = {}  # ask id -> peer, while dispatched
        self.attempts = []
        self.given_up = {}

    def send(self, event):
        for action in self.scheduler.step(self.now_ms, event):
            match action:
                case Wake(at_ms):
                    self.wake_ms = at_ms
                case Dispatch(ask_id, peer):
                    self.at[ask_id] = peer
                    self.attempts.append((ask_id, peer))
                case GiveUp(ask_id, code, message):
                    assert ask_id not in self.given_up
                    assert message
                    assert "\n" not in message
                    self.at.pop(ask_id, None)
                    self.given_up[ask_id] = (code, message)

    def adverts(self, *workers):
        for each in workers:
            self.send(AdvertSeen(each))

    def advance_to(self, now_ms):
        while self.wake_ms is not None and self.wake_ms <= now_ms:
            self.now_ms, self.wake_ms = self.wake_ms, None
            self.send(Tick())
        self.now_ms = now_ms

    def end(self, event):
        """An event after which the ask is no longer at its worker, unless it is sent there again."""
        self.at.pop(event.ask_id)
        self.send(event)


@pytest.fixture
def driver(now_ms):
    return Driver(now_ms)


def refuse(driver, ask_id, code, retryable=True):
    driver.end(Refused(ask_id, driver.at[ask_id], code, retryable))


def test_an_ask_completes(driver, worker, ask):
    driver.adverts(worker(1))
    driver.send(AskArrived(ask(1)))
    driver.end(Completed(1, worker(1).peer, 200, 1000, 50))
    assert len(driver.scheduler) == 0
    assert driver.scheduler.standing(worker(1).peer).outstanding == 0
    assert driver.scheduler.standing(worker(1).peer).token_us < 20_000


def test_ids_are_used_once_at_a_time(driver, ask):
    driver.send(AskArrived(ask(1)))
    with pytest.raises(LocalProtocolError, match="already under way"):
        driver.send(AskArrived(ask(1)))


def test_an_ask_waits_for_a_worker_to_appear(driver, worker, ask):
    driver.send(AskArrived(ask(1)))
    driver.advance_to(driver.now_ms + 30_000)
    assert driver.at == {}
    driver.adverts(worker(1, seen_ms=driver.now_ms))
    assert driver.at == {1: worker(1).peer}


def test_whether_another_worker_could_serve_an_ask_that_is_under_way(driver, worker, ask):
    def has_other(ask_id=1):
        return driver.scheduler.has_other(driver.now_ms, ask_id)

    driver.adverts(worker(1))
    driver.send(AskArrived(ask(1)))
    assert not has_other()
    driver.adverts(worker(2, rates=Rates(10**9, 10**9, 10**9)), worker(3, max_context=8))
    assert not has_other()
    driver.adverts(worker(4))
    assert has_other()
    assert not has_other(ask_id=2)
    for number in range(10, 13):  # three failures in a row: it rests
        driver.send(AskArrived(ask(number, only=(worker(4).peer,))))
        driver.end(Failed(number, worker(4).peer))
        driver.send(Cancelled(number))
        driver.at.pop(number, None)
    assert not has_other()


@pytest.mark.parametrize(
    ("patience_ms", "ended_after_ms", "code"),
    [(None, 60_000, "deadline_exceeded"), (5_000, 5_000, "not_found")],
)
def test_nobody_appears(driver, ask, patience_ms, ended_after_ms, code):
    driver.send(AskArrived(ask(1, patience_ms=patience_ms)))
    start_ms = driver.now_ms
    driver.advance_to(start_ms + ended_after_ms - 1)
    assert driver.given_up == {}
    driver.advance_to(start_ms + ended_after_ms)
    assert driver.given_up[1][0] == code
    assert "start one, or connect" in driver.given_up[1][1]


@pytest.mark.parametrize(
    ("offer", "code", "words"),
    [
        ({"rates": Rates(10**9, 0, 0)}, "price", "raise the limit of 10000"),
        (
            {"max_context": 64},
            "too_long",
            "exceed every worker's context; the largest is 64 tokens: lower max-tokens",
        ),
        ({"running": 16}, "busy", "1 is full"),
    ],
)
def test_the_shortage_is_named(driver, worker, ask, offer, code, words):
    driver.adverts(worker(1, **offer))
    driver.send(AskArrived(ask(1, patience_ms=2_000)))
    driver.advance_to(driver.now_ms + 2_000)
    assert driver.given_up[1][0] == code
    assert words in driver.given_up[1][1]


def test_another_worker_takes_over_and_the_failed_one_rests(driver, worker, ask):
    driver.adverts(worker(1), worker(2))
    driver.send(AskArrived(ask(1)))
    first = driver.at[1]
    driver.end(Failed(1, first, tokens=20, spent=300))
    assert driver.at[1] != first, "at once"
    second = driver.at[1]
    driver.end(Failed(1, second, tokens=30, spent=500))
    assert 1 not in driver.at, "the second time after a pause"
    driver.advance_to(driver.now_ms + 1_000)
    assert 1 in driver.at


def test_what_was_delivered_and_spent_is_not_asked_for_again(driver, worker, ask):
    # 1 unit a prompt token and 10 an output token: 600 at first, 320 after 30 tokens; 250 remain
    driver.adverts(worker(1, rates=Rates(1000, 10_000, 0)))
    driver.send(AskArrived(ask(1, max_price=600)))
    driver.end(Failed(1, worker(1).peer, tokens=30, spent=350))
    driver.advance_to(driver.now_ms + 10_000)
    assert 1 not in driver.at
    driver.adverts(worker(2, rates=Rates(500, 8_000, 0), seen_ms=driver.now_ms))
    assert driver.at[1] == worker(2).peer


def test_the_only_worker_is_tried_again_with_growing_pauses(driver, worker, ask):
    driver.adverts(worker(1, max_batch=1))
    driver.send(AskArrived(ask(1)))
    times = []
    while 1 in driver.at:
        times.append(driver.now_ms)
        driver.end(Failed(1, worker(1).peer))
        if driver.given_up:
            break
        driver.advance_to(driver.wake_ms)
        while 1 not in driver.at and not driver.given_up:
            driver.advance_to(driver.wake_ms)
            driver.adverts(worker(1, seq=driver.now_ms, seen_ms=driver.now_ms))
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps == sorted(gaps)
    assert gaps[-1] >= 15_000, "three failures in a row ban a worker"
    assert driver.given_up[1][0] in ("failed", "deadline_exceeded")


@pytest.mark.parametrize("code", list(RefusalCode))
def test_every_refusal_goes_to_another_worker(driver, worker, ask, code):
    driver.adverts(worker(1), worker(2))
    driver.send(AskArrived(ask(1)))
    first = driver.at[1]
    refuse(driver, 1, code)
    assert driver.at[1] != first


@pytest.mark.parametrize("code", [RefusalCode.BAD_ADAPTER, RefusalCode.INVALID, "something new"])
def test_final_refusals_end_an_ask_after_a_second_opinion(driver, worker, ask, code):
    driver.adverts(worker(1), worker(2), worker(3))
    driver.send(AskArrived(ask(1)))
    refuse(driver, 1, code, retryable=False)
    refuse(driver, 1, code, retryable=False)
    assert driver.given_up[1] == (str(code), f"2 workers declined it for good: {code}")
    assert len(driver.attempts) == 2


def test_a_final_refusal_by_the_only_worker_ends_an_ask(driver, worker, ask):
    driver.adverts(worker(1))
    driver.send(AskArrived(ask(1)))
    refuse(driver, 1, RefusalCode.TOO_LONG, retryable=False)
    assert driver.given_up[1][0] == "too_long"


def test_who_declines_what_another_serves_loses_standing(driver, worker, ask):
    driver.adverts(worker(1), worker(2))
    driver.send(AskArrived(ask(1)))
    liar = driver.at[1]
    before = driver.scheduler.standing(liar).success_ppm(driver.now_ms)
    refuse(driver, 1, RefusalCode.INVALID, retryable=False)
    driver.end(Completed(1, driver.at[1], 100, 1000, 50))
    assert driver.scheduler.standing(liar).success_ppm(driver.now_ms) < before


def test_busy_workers_get_a_pause_and_no_blame(driver, worker, ask):
    driver.adverts(worker(1))
    driver.send(AskArrived(ask(1)))
    before = driver.scheduler.standing(worker(1).peer).success_ppm(driver.now_ms)
    for _ in range(20):
        refuse(driver, 1, RefusalCode.BUSY)
        assert 1 not in driver.at
        driver.advance_to(driver.now_ms + 6_000)
        driver.adverts(worker(1, seq=driver.now_ms, seen_ms=driver.now_ms))
        if 1 not in driver.at:
            break
    driver.advance_to(ask(1).deadline_ms)
    assert driver.scheduler.standing(worker(1).peer).success_ppm(driver.now_ms) == before
    assert driver.given_up[1][0] == "deadline_exceeded"


def test_a_worker_that_shuts_down_is_forgotten_until_it_speaks_again(driver, worker, ask):
    driver.adverts(worker(1))
    driver.send(AskArrived(ask(1)))
    refuse(driver, 1, RefusalCode.SHUTDOWN)
    assert len(driver.scheduler.view) == 0
    driver.send(AskArrived(ask(2)))
    driver.adverts(worker(1, seq=2))
    assert driver.at == {2: worker(1).peer}


def test_full_workers_leave_asks_here_and_take_the_longest_waiting_first(driver, worker, ask):
    driver.adverts(worker(1, max_batch=1))
    for number in range(6):
        driver.send(AskArrived(ask(number)))
    assert sorted(driver.at) == [0, 1, 2, 3], "a backlog of four batches"
    driver.end(Completed(2, worker(1).peer, 100, 1000, 50))
    assert sorted(driver.at) == [0, 1, 3, 4]
    driver.at.pop(0)
    driver.send(Cancelled(0))
    assert sorted(driver.at) == [1, 3, 4, 5]


@pytest.mark.parametrize("is_first", [True, False])
def test_an_ask_looks_again_for_a_full_worker_of_which_nobody_tells(driver, worker, ask, is_first):
    full = worker(2, running=100)
    driver.adverts(*([full] if is_first else []), worker(1, rates=Rates(10**9, 0, 0)))
    driver.send(AskArrived(ask(1)))
    driver.adverts(*([] if is_first else [full]))
    driver.advance_to(driver.now_ms + FOREIGN_LIFE_MS)
    assert driver.at == {1: full.peer}


def test_who_declined_hides_nobody_who_is_full(driver, worker, ask):
    driver.adverts(worker(1))
    driver.send(AskArrived(ask(1)))
    driver.adverts(worker(2, running=100))
    refuse(driver, 1, RefusalCode.UNKNOWN_ADAPTER)
    driver.advance_to(driver.now_ms + FOREIGN_LIFE_MS)
    assert driver.at == {1: worker(2).peer}


def test_events_of_ended_asks_and_former_workers_are_ignored(driver, worker, ask):
    driver.adverts(worker(1), worker(2))
    driver.send(AskArrived(ask(1)))
    first = driver.at[1]
    driver.end(Failed(1, first))
    second = driver.at[1]
    for event in (
        Completed(1, first, 1, 1, 1),
        Failed(1, first),
        Refused(1, first, "busy"),
        Progress(1, first, 9),
    ):
        driver.send(event)
        assert driver.at[1] == second
    driver.end(Completed(1, second, 100, 1000, 50))
    for event in (Completed(1, second, 1, 1, 1), Failed(1, second), Cancelled(1), Progress(7, first, 9)):
        driver.send(event)
    assert len(driver.scheduler) == 0
    assert [driver.scheduler.standing(peer).outstanding for peer in (first, second)] == [0, 0]


def test_progress_forgives_earlier_failures(driver, worker, ask):
    driver.adverts(*(worker(number) for number in range(40)))
    driver.send(AskArrived(ask(1, max_tokens=1000, max_price=10**6)))
    for tokens in range(1, 31):
        driver.send(Progress(1, driver.at[1], tokens))
        driver.end(Failed(1, driver.at[1], tokens=tokens))
        assert 1 in driver.at, "no pause after a failure that brought tokens"


def test_asks_are_bounded(now_ms, ask):
    driver = Driver(now_ms, SchedulerConfig(max_asks=2))
    for number in range(3):
        driver.send(AskArrived(ask(number)))
    assert driver.given_up[2][0] == "busy"


def test_the_clock_never_runs_backwards(driver, worker, ask):
    driver.adverts(worker(1))
    driver.now_ms -= 10_000
    driver.send(AskArrived(ask(1)))
    assert driver.wake_ms == ask(1).deadline_ms


def test_standings_are_bounded(now_ms, worker):
    scheduler = Scheduler(SchedulerConfig(max_workers=10), 1)
    for number in range(500):
        scheduler.step(now_ms, AdvertSeen(worker(number)))
    assert len(scheduler.view) == 10
    assert len(scheduler._standings) <= 21
