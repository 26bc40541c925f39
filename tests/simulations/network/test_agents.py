"""What gateways and workers of the event kernel do beside the plain answer: hedges, ranks, placement."""

import pytest

from commonlore.scheduler.config import SchedulerConfig
from commonlore.simulations.experiment.scenario import read_experiment
from commonlore.simulations.network.agents import World
from commonlore.simulations.workload.people import BASE


@pytest.fixture
def run(table):
    """Runs the small scenario with changes, `table__key` each; the world afterwards."""

    def with_changes(seed=1, **changes):
        del table["sweep"]
        for name, value in changes.items():
            place, key = name.split("__")
            table.setdefault(place, {})[key] = value
        world = World(read_experiment(table).arms[0].scenario, seed)
        world.run()
        return world

    return with_changes


def test_late_asks_are_hedged_and_every_ask_ends_once(run):
    slow = {"workers__prefill_us_per_token": 12_000, "adapters__count": 0, "churn__mean_lifetime_ms": 0}
    world = run(scheduler__hedge_ppm=300_000, **slow)
    hedged = [ask for ask in world.asks if ask.attempts > 1]
    assert world.scenario.scheduler == SchedulerConfig(hedge_ppm=300_000)
    assert 1 < len(hedged) <= 0.3 * len(world.asks) + 10, "nobody fails here: second attempts are hedges"
    assert all(ask.attempt is ask.hedge is None for ask in world.asks)
    whole = [ask for ask in hedged if ask.outcome == "completed"]
    assert all(ask.delivered == ask.output_tokens for ask in whole)
    assert any(ask.price > ask.output_tokens * 4 // 1000 + 20 for ask in whole), "who came second is paid too"
    assert world.accounts.settle().conserved


def test_hedges_and_deaths_leave_nothing_open(run):
    world = run(scheduler__hedge_ppm=500_000, churn__mean_lifetime_ms=4_000)
    assert {ask.outcome for ask in world.asks} <= {"completed", "deadline_exceeded", "failed", "busy"}
    assert all(ask.attempt is ask.hedge is None for ask in world.asks)
    assert not any(len(gateway.scheduler) or gateway._asks for gateway in world.gateways)
    assert world.accounts.settle().conserved


def test_adverts_say_ranks_and_slots_and_larger_ranks_are_slower(run):
    world = run(adapters__ranks=[[0.5, 8], [0.5, 64]], churn__mean_lifetime_ms=0)
    field = world.gateways[0].scheduler.view.field(BASE)
    views = [member.ad for member in field.everyone]
    assert {view.slots for view in views} == {3}
    for view in views:
        assert [world.people.ranks[world.adapter_of[each]] for each in view.resident] == [*view.ranks]
    assert {*world.people.ranks} == {8, 64}
    assert any(member.top_rank == 64 for member in field.everyone)


def test_padding_to_the_largest_rank_takes_time(run, table):
    plain = run(adapters__ranks=[[1, 64]], churn__mean_lifetime_ms=0)
    table["sweep"] = {}
    padded = run(workers__step_us_per_rank=200)
    longer = [after.done_us - before.done_us for before, after in zip(plain.asks, padded.asks, strict=True)]
    assert sum(longer) > 0
    assert padded.asks[0].done_us - plain.asks[0].done_us == pytest.approx(
        64 * 200 * (plain.asks[0].output_tokens - 1), rel=0.5
    )


def test_workers_may_act_on_placement_advice(run, table):
    changes = {"churn__mean_lifetime_ms": 0, "adapters__zipf": 1.2}
    plain = run(**changes)
    table["sweep"] = {}
    placed = run(workers__placement_ms=2_000, workers__placement_loads=2)
    fetched = [sum(each.engine.fetched for each in world.workers) for world in (plain, placed)]
    assert fetched[1] > fetched[0], "they load what nobody asked them for yet"
    assert all(len(each.engine.resident()) <= 3 for each in placed.workers)
