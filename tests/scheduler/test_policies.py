from collections import Counter

import pytest

from commonlore.protocol.errors import ConfigError
from commonlore.protocol.gossip.adverts import Rates
from commonlore.protocol.ids import cid_of
from commonlore.scheduler.core import Scheduler, SchedulerConfig
from commonlore.scheduler.events import AdvertSeen, AskArrived, Completed, Dispatch, Prefetch
from commonlore.scheduler.policies import POLICIES

ADAPTER = cid_of(b"adapter")


def dispatches(actions):
    return [action.peer for action in actions if isinstance(action, Dispatch)]


@pytest.fixture
def route(ask, now_ms):
    """Sends asks, each finished before the next unless `hold`; returns the peers chosen."""

    def run(workers, policy, count=1, *, hold=False, seed=1, **changes):
        scheduler = Scheduler(SchedulerConfig(policy=policy), seed)
        for each in workers:
            scheduler.step(now_ms, AdvertSeen(each))
        chosen = []
        for number in range(count):
            chosen += dispatches(scheduler.step(now_ms, AskArrived(ask(number, **changes))))
            if not hold:
                scheduler.step(now_ms, Completed(number, chosen[-1], 100, 1000, 50))
        return chosen

    return run


def test_unknown_policy_is_named(ask):
    with pytest.raises(ConfigError, match="unknown routing policy 'best'"):
        SchedulerConfig(policy="best")


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_serves_and_honours_filters(route, worker, policy):
    workers = [worker(number) for number in range(5)]
    assert len(route(workers, policy, 20)) == 20
    assert set(route(workers, policy, 5, only=(workers[3].peer,))) == {workers[3].peer}
    assert workers[0].peer not in route(workers, policy, 20, excluded=(workers[0].peer,))
    assert route([], policy, hold=True) == []


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_finds_the_one_that_may_serve_among_many(route, worker, policy):
    workers = [worker(number, max_context=64) for number in range(200)] + [worker(200)]
    assert route(workers, policy) == [workers[200].peer]


def test_holders_come_first_until_they_are_behind(route, worker):
    workers = [
        worker(0, resident=(ADAPTER,), max_batch=2),
        *(worker(number, max_batch=2) for number in (1, 2)),
    ]
    chosen = route(workers, "affinity_and_load", 12, hold=True, adapters=(ADAPTER,))
    assert chosen[:2] == [workers[0].peer] * 2
    assert len(set(chosen)) == 3, "a full holder shares the work"


def test_an_adapter_just_sent_somewhere_is_looked_for_there(route, worker):
    workers = [worker(number) for number in range(4)]
    assert len(set(route(workers, "affinity_and_load", 10, adapters=(ADAPTER,)))) == 1


def test_load_counts_adverts_and_own_asks(route, worker):
    workers = [worker(0, running=3), worker(1)]
    chosen = route(workers, "affinity_and_load", 7, hold=True)
    assert Counter(chosen) == {workers[1].peer: 5, workers[0].peer: 2}


def test_cheapest_is_cheapest_and_then_emptiest(route, worker):
    cheap = Rates(1, 1, 0)
    workers = [worker(0), worker(1, rates=cheap, running=2), worker(2, rates=cheap)]
    assert route(workers, "cheapest") == [workers[2].peer]


def test_round_robin_takes_turns(route, worker):
    workers = [worker(number) for number in range(3)]
    assert Counter(route(workers, "round_robin", 9)) == {each.peer: 3 for each in workers}


def test_least_outstanding_evens_out(route, worker):
    workers = [worker(number) for number in range(3)]
    assert Counter(route(workers, "least_outstanding", 9, hold=True)) == {each.peer: 3 for each in workers}


def test_consistent_hash_sends_an_adapter_to_one_worker_while_it_has_room(route, worker):
    workers = [worker(number) for number in range(10)]
    assert len(set(route(workers, "consistent_hash", 10, adapters=(ADAPTER,)))) == 1
    assert len(set(route(workers, "consistent_hash", 8, hold=True, adapters=(ADAPTER,)))) == 2


def test_random_spreads_and_follows_its_seed(route, worker):
    workers = [worker(number) for number in range(4)]
    first = route(workers, "random", 40, seed=5)
    assert min(Counter(first).values()) >= 4
    assert first == route(workers, "random", 40, seed=5)
    assert first != route(workers, "random", 40, seed=6)


def test_a_full_holder_causes_one_prefetch_by_an_idle_worker(worker, ask, now_ms):
    scheduler = Scheduler(SchedulerConfig(), 1)
    workers = [worker(0, resident=(ADAPTER,), max_batch=2), worker(1)]
    for each in workers:
        scheduler.step(now_ms, AdvertSeen(each))
    for number in range(2):
        scheduler.step(now_ms, AskArrived(ask(number, only=(workers[0].peer,))))
    actions = []
    for number in (9, 10):  # so short that to wait is quicker than to load
        actions += scheduler.step(now_ms, AskArrived(ask(number, adapters=(ADAPTER,), max_tokens=5)))
    assert dispatches(actions) == [workers[0].peer] * 2
    assert [each for each in actions if isinstance(each, Prefetch)] == [Prefetch(workers[1].peer, ADAPTER)]
