"""The drivers of one scheduler: the kernel with modelled peers, and real peers in virtual time."""

import os
import subprocess
import sys

import pytest
import trio

from commonlore.protocol.errors import LocalProtocolError
from commonlore.simulations.experiment.scenario import read_experiment
from commonlore.simulations.modelled.asks import COMPLETED
from commonlore.simulations.network.agents import World
from commonlore.simulations.virtual.kernel import TrioKernel
from commonlore.simulations.virtual.network import real_people, run_virtual
from commonlore.simulations.virtual.time import drive, is_deterministic, run_virtually

SHARED = {
    "name": "shared",
    "about": "One scenario for all drivers",
    "warmup_ms": 0,
    "duration_ms": 12_000,
    "network": {"gateways": 2, "advert_interval_ms": 2_000, "loss_detected_ms": 300},
    "workers": {"count": 5, "max_batch": 4, "max_queue": 1_000, "slots": 3, "receipt_tokens": 1_024},
    "work": {"rate_per_s": 3.0, "prompt_mu": 4.8, "prompt_sigma": 0.2, "output_mu": 2.5},
    "adapters": {"count": 8},
}
CHURN = {
    "network": {"gateways": 1, "advert_interval_ms": 2_000, "loss_detected_ms": 300},
    "churn": {"mean_lifetime_ms": 6_000, "mean_absence_ms": 3_000},
    "work": {**SHARED["work"], "rate_per_s": 0.2, "output_mu": 3.4},
    "duration_ms": 60_000,
}


def scenario(**changed):
    return read_experiment(SHARED | changed).arms[0].scenario


@pytest.mark.parametrize(
    ("policy", "changed"),
    [("affinity_and_load", {}), ("power_of_two", {}), ("random", {}), ("power_of_two", CHURN)],
)
def test_drivers_take_the_same_decisions(policy, changed):
    shared = scenario(**changed, scheduler={"policy": policy})
    told = run_virtual(shared, 1)
    world = World(shared, 1, real_people(shared, 1))
    world.run()
    assert [gateway.scheduler.decisions for gateway in world.gateways] == told.decisions
    assert sum(len(each) for each in told.decisions) >= len(told.asks) > 5
    assert [ask.outcome for ask in told.asks] == [ask.outcome for ask in world.asks]
    if not changed:
        assert [ask.first_us for ask in told.asks] == [ask.first_us for ask in world.asks]
        waits = [real.done_us - model.done_us for real, model in zip(told.asks, world.asks, strict=True)]
        assert min(waits) == 0
        assert max(waits) < 300_000, "at most a turn in settling the receipts of one channel"
        assert [ask.price for ask in told.asks] == [ask.price for ask in world.asks]
    else:
        assert any(attempt > 1 for _, _, attempt in told.decisions[0]), "somebody died"
        assert all(ask.outcome == COMPLETED for ask in told.asks)


SCRIPT = f"""
from commonlore.simulations.experiment.scenario import read_experiment
from commonlore.simulations.virtual.network import run_virtual
told = run_virtual(read_experiment({SHARED | {"duration_ms": 3_000}!r}).arms[0].scenario, 5)
print([(a.first_us, a.done_us, a.price, a.worker) for a in told.asks], told.decisions, told.events)
"""


def test_the_same_seed_gives_the_same_run_in_another_process(capsys):
    command, environment = [sys.executable, "-c", SCRIPT], {**os.environ, "PYTHONHASHSEED": "2"}
    there = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    exec(SCRIPT, {})
    assert capsys.readouterr().out == there
    assert len(there) > 200


def test_trio_can_be_made_deterministic():
    assert is_deterministic()


def test_trio_is_as_before_afterwards():
    run = trio._core._run
    before = (run._ALLOW_DETERMINISTIC_SCHEDULING, run._r.getstate())
    run_virtually(trio.lowlevel.checkpoint, 3)
    assert (run._ALLOW_DETERMINISTIC_SCHEDULING, run._r.getstate()) == before


def test_another_trio_is_refused(monkeypatch):
    monkeypatch.delattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING")
    with pytest.raises(LocalProtocolError, match=r"trio .* cannot be made deterministic"):
        run_virtually(trio.lowlevel.checkpoint, 3)


def test_the_kernel_runs_between_tasks():
    async def main():
        kernel, seen = TrioKernel(), []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drive, kernel)
            kernel.after(2_000_000, lambda: seen.append(("event", kernel.now_us)))
            await trio.sleep(1)
            seen.append(("task", kernel.time_us()))
            kernel.after(500_000, lambda: seen.append(("sooner", kernel.now_us)))
            await trio.sleep(2)
            nursery.cancel_scope.cancel()
        return seen

    assert run_virtually(main, 1) == [("task", 1_000_000), ("sooner", 1_500_000), ("event", 2_000_000)]
