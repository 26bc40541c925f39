"""What is believed of workers: adverts that lie, are old or come from a wrong clock; audits; prefixes."""

import pytest

from commonlore.protocol.gossip.adverts import MAX_CLOCK_SKEW_MS
from commonlore.protocol.ids import cid_of
from commonlore.scheduler.core import Scheduler, SchedulerConfig
from commonlore.scheduler.events import AdvertSeen, AskArrived, Completed, Dispatch, Failed, Judged
from commonlore.scheduler.standing import (
    FOREIGN_FRESH_MS,
    FOREIGN_LIFE_MS,
    PPM,
    TRUST_HALF_LIFE_MS,
    WORTH_FLOOR_PPM,
    Standing,
)

ADAPTER = cid_of(b"adapter")


class Serving:
    """Asks one after the other, each answered in the time that its worker takes."""

    def __init__(self, now_ms, ask, ttft_ms, policy="affinity_and_load"):
        self.scheduler = Scheduler(SchedulerConfig(policy=policy), 1)
        self.now_ms, self.ask, self.ttft_ms = now_ms, ask, ttft_ms
        self.number = 0

    def advert(self, each):
        self.scheduler.step(self.now_ms, AdvertSeen(each))

    def route(self, **changes):
        self.number += 1
        spec = self.ask(self.number, deadline_ms=self.now_ms + 60_000, **changes)
        actions = self.scheduler.step(self.now_ms, AskArrived(spec))
        (peer,) = [each.peer for each in actions if isinstance(each, Dispatch)]
        return peer

    def answer(self, **changes):
        peer = self.route(**changes)
        ttft_ms = self.ttft_ms.get(peer, 100)
        self.now_ms += ttft_ms + 500
        self.scheduler.step(self.now_ms, Completed(self.number, peer, ttft_ms, ttft_ms + 500, 50))
        return peer


def test_who_announces_no_load_and_answers_late_is_left(worker, ask, now_ms):
    liar, honest = worker(1), worker(2, running=3)
    serving = Serving(now_ms, ask, {liar.peer: 8_000})
    for each in (liar, honest):
        serving.advert(each)
    answered = [serving.answer() for _ in range(12)]
    assert liar.peer in answered[:4], "it is believed at first"
    serving.advert(worker(1, seq=2, seen_ms=serving.now_ms))
    serving.advert(worker(2, seq=2, running=3, seen_ms=serving.now_ms))
    assert {serving.answer() for _ in range(6)} == {honest.peer}, "what it did counts, not what it says"


@pytest.mark.parametrize("skew_ms", [-MAX_CLOCK_SKEW_MS, 0, MAX_CLOCK_SKEW_MS])
def test_a_clock_within_the_window_changes_no_choice(worker, ask, now_ms, skew_ms):
    serving = Serving(now_ms, ask, {})
    serving.advert(worker(1, issued_ms=now_ms + skew_ms))
    serving.advert(worker(2, running=4))
    assert serving.route() == worker(1).peer


@pytest.mark.parametrize("skew_ms", [-200_000, MAX_CLOCK_SKEW_MS + 1])
def test_a_clock_outside_the_window_is_not_heard(worker, ask, now_ms, skew_ms):
    serving = Serving(now_ms, ask, {})
    serving.advert(worker(1, issued_ms=now_ms + skew_ms))
    serving.advert(worker(2, running=4))
    assert serving.route() == worker(2).peer


def test_others_asks_are_believed_less_and_less(now_ms):
    standing = Standing()
    standing.outstanding = 2
    standing.advertised(now_ms, 7)
    ages = (0, FOREIGN_FRESH_MS, FOREIGN_FRESH_MS + 10_000, FOREIGN_LIFE_MS, 10 * FOREIGN_LIFE_MS)
    assert [standing.load_at(now_ms + age) for age in ages] == [7, 7, 5, 2, 2]


def test_a_failed_audit_costs_and_is_forgiven(now_ms):
    standing = Standing()
    standing.audited(now_ms, passed=False)
    assert standing.trust_ppm(now_ms) == PPM // 4
    fallen = standing.worth_at(now_ms)
    for _ in range(20):
        standing.audited(now_ms, passed=False)
    assert fallen > standing.worth_at(now_ms) == WORTH_FLOOR_PPM
    later = [standing.worth_at(now_ms + hours * TRUST_HALF_LIFE_MS) for hours in (1, 3, 30)]
    assert WORTH_FLOOR_PPM < later[0] < later[1] < later[2]
    for _ in range(40):
        standing.audited(now_ms, passed=True)
    assert standing.trust_ppm(now_ms) > 950_000


def test_who_fails_an_audit_gets_less_work(worker, ask, now_ms):
    serving = Serving(now_ms, ask, {})
    for number in (1, 2):
        serving.advert(worker(number))
    serving.scheduler.step(now_ms, Judged(worker(1).peer, passed=False))
    assert {serving.answer() for _ in range(8)} == {worker(2).peer}


def test_judgements_of_strangers_are_bounded(worker, ask, now_ms):
    scheduler = Scheduler(SchedulerConfig(max_workers=10), 1)
    for number in range(200):
        scheduler.step(now_ms, Judged(worker(number).peer, passed=number % 2 == 0))
    assert len(scheduler._standings) <= 20


@pytest.mark.parametrize("policy", ["affinity_and_load", "prefix_affinity"])
def test_a_conversation_goes_on_where_its_past_is_cached(worker, ask, now_ms, policy):
    serving = Serving(now_ms, ask, {}, policy)
    for number in range(40):
        serving.advert(worker(number))
    first = serving.answer(prompt_tokens=1_000, prefixes=((b"one", 900),))
    turns = ((b"one", 900), (b"two", 1_000))
    assert [serving.answer(prompt_tokens=1_100, prefixes=turns) for _ in range(4)] == [first] * 4
    strangers = {serving.answer(prompt_tokens=1_100, prefixes=((b"else", 900),)) for _ in range(1)}
    assert strangers != {first} or policy == "affinity_and_load"


@pytest.mark.parametrize("policy", ["affinity_and_load", "prefix_affinity"])
def test_who_serves_another_base_now_is_not_asked_for_what_it_read(worker, ask, now_ms, policy):
    serving = Serving(now_ms, ask, {}, policy)
    serving.advert(worker(1))
    turns = ((b"one", 900),)
    first = serving.answer(prompt_tokens=1_000, prefixes=turns)
    other = cid_of(b"another base")
    serving.advert(worker(1, seq=2, base=other, artefact=other))
    serving.advert(worker(2))
    assert serving.route(prompt_tokens=1_000, prefixes=turns) == worker(2).peer != first


def test_who_once_held_an_adapter_is_asked_before_strangers(worker, ask, now_ms):
    serving = Serving(now_ms, ask, {}, "affinity_and_load")
    serving.advert(worker(0, resident=(ADAPTER,)))
    for number in range(1, 30):
        serving.advert(worker(number))
    serving.advert(worker(0, seq=2))
    assert serving.answer(adapters=(ADAPTER,)) == worker(0).peer


def test_failures_are_remembered_when_a_worker_comes_back(worker, ask, now_ms):
    serving = Serving(now_ms, ask, {})
    serving.advert(worker(1))
    for _ in range(3):
        peer = serving.route()
        serving.scheduler.step(serving.now_ms, Failed(serving.number, peer))
        serving.now_ms += 6_000
        serving.advert(worker(1, seq=serving.now_ms, seen_ms=serving.now_ms))
        if serving.scheduler.standing(peer).is_banned:
            break
    else:
        pytest.fail("three failures in a row ban a worker")
