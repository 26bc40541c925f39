"""Closed-form workers, and the scheduler over many of them."""

from dataclasses import replace

import pytest

from commonlore.simulations.experiment.scenario import read_experiment
from commonlore.simulations.modelled.seats import Seats, given_by
from commonlore.simulations.modelled.workers import EngineSpeed
from commonlore.simulations.network.crowd import Crowd
from commonlore.simulations.studies.service import run_service

# a step takes 10 ms and 1 ms a sequence, a prompt token 1 ms, an adapter 5 ms from disk, 105 from afar
SPEED = EngineSpeed(2, 2, 3, 10_000, 1_000, 1_000, 5_000, 100_000)
LARGE = {
    "name": "many",
    "about": "",
    "warmup_ms": 0,
    "duration_ms": 20_000,
    "workers": {"model": "seats", "count": 300, "slots": 4},
    "work": {"rate_per_s": 40.0},
    "adapters": {"count": 100},
}


def test_an_answer_alone_takes_its_prefill_and_its_steps():
    assert Seats(SPEED).take(0, -1, 10, 5) == (0, 10_000, 10_000 + 4 * 11_000, True)


def test_an_adapter_is_fetched_once_and_the_least_used_makes_room():
    seats = Seats(SPEED)
    assert seats.take(0, 7, 10, 1) == (105_000, 115_000, 115_000, False)
    assert seats.take(200_000, 7, 10, 1)[3]
    seats.take(300_000, 8, 10, 1)
    seats.take(500_000, 9, 10, 1)
    assert seats.resident(700_000) == [9, 8]
    assert seats.take(700_000, 7, 10, 1) == (705_000, 715_000, 715_000, False)
    assert seats.fetched == 3


def test_who_finds_no_seat_waits_for_the_first_that_is_free():
    seats = Seats(SPEED)
    ends = [seats.take(0, -1, 10, 5)[2] for _ in range(2)]
    assert seats.queued(0) == 0
    _, first_us, _, _ = seats.take(0, -1, 10, 5)
    assert first_us == min(ends) + 10_000
    assert (seats.queued(0), seats.running(0)) == (1, 2)
    seats.die()
    assert (seats.queued(0), seats.running(0), seats.resident(0)) == (0, 0, [])


@pytest.mark.parametrize(("death_us", "given"), [(5, 0), (10, 1), (20, 2), (99, 4)])
def test_what_was_given_by_a_death(death_us, given):
    assert given_by(10, 50, death_us, 5) == given


def test_every_ask_ends_though_workers_die():
    table = LARGE | {"churn": {"mean_lifetime_ms": 4_000, "mean_absence_ms": 2_000}}
    scenario = read_experiment(table).arms[0].scenario
    crowd = Crowd(scenario, 3)
    crowd.run()
    rows = crowd.rows()
    whole = [code == "completed" for code in rows["outcome"]]
    assert [total >= 0 for total in rows["total_us"]] == whole
    assert [
        given == all_ for given, all_ in zip(rows["delivered"], rows["output_tokens"], strict=True)
    ] == whole
    assert set(rows["outcome"]) <= {"completed", "deadline_exceeded", "failed"}
    assert max(rows["attempts"]) > 1
    assert crowd.volume == sum(rows["price"])


def test_with_little_load_both_models_say_the_same():
    light = LARGE | {"work": {"rate_per_s": 4.0}, "adapters": {"count": 0}}
    scenario = read_experiment(light).arms[0].scenario
    both = [
        run_service(replace(scenario, workers=replace(scenario.workers, model=model)), 1).summary
        for model in ("seats", "batching")
    ]
    for figure in ("asks", "completed", "volume", "ttft_p50_ms"):
        assert both[0][figure] == pytest.approx(both[1][figure], rel=0.02)


def test_affinity_meets_more_adapters_than_chance():
    hits = {}
    for policy in ("affinity_and_load", "random"):
        scenario = read_experiment(LARGE | {"scheduler": {"policy": policy}}).arms[0].scenario
        hits[policy] = run_service(scenario, 1).summary["hit_rate"]
    assert hits["affinity_and_load"] > hits["random"] + 0.2
