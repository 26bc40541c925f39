"""The kind `service`: asks, routed by the real scheduler to modelled workers, paid by the real arithmetic.

An ask without a first token (or an end) counts with its deadline in percentiles, so that a policy cannot look
fast by giving up. Asks that arrive in the warm-up are not counted; money and transfers are of the whole run.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..experiment.figures import Figures, Panel
from ..experiment.kinds import Columns, Kind, Outcome, Scalar
from ..experiment.measures import jain, percentile_ms, ratio
from ..experiment.model_checks import check_scenario
from ..experiment.models import Scenario
from ..modelled.asks import COMPLETED, Ask
from ..network.accounts import Settlement
from ..network.agents import World
from ..network.crowd import Crowd
from ..workload.arrivals import check_lengths
from ..workload.traces import check_trace, locate_trace, trace_files

if TYPE_CHECKING:
    from ..virtual.network import Told

Ints = npt.NDArray[np.int64]
ROLES = ("platform", "worker", "author", "work_pool", "contributor")


def run_service(scenario: Scenario, seed: int) -> Outcome:
    """One arm with one seed."""
    if scenario.driver == "virtual":
        from ..virtual.network import run_virtual  # the room of peers, which no other driver needs

        told = run_virtual(scenario, seed)
        return _outcome(scenario, _rows(told.asks), _of_virtual(scenario, told), told.events)
    if scenario.workers.model == "seats":
        crowd = Crowd(scenario, seed)
        crowd.run()
        return _outcome(scenario, crowd.rows(), _of_crowd(crowd), crowd.kernel.events)
    world = World(scenario, seed)
    world.run()
    return _outcome(scenario, _rows(world.asks), _of_world(world), world.kernel.events)


def _outcome(scenario: Scenario, rows: Columns, rest: dict[str, Scalar], events: int) -> Outcome:
    summary = summarise(scenario, rows) | rest
    return Outcome(summary, {"asks": rows} if scenario.rows else {}, events)


def _rows(asks: list[Ask]) -> Columns:
    """`ttft_us` and `total_us` run from arrival, -1 where it never came to that; `wait_us`, of whole answers,
    until the last worker began to read the prompt."""
    return {
        "ask": [ask.number for ask in asks],
        "arrived_us": [ask.arrived_us for ask in asks],
        "adapter": [ask.adapter for ask in asks],
        "prompt_tokens": [ask.prompt_tokens for ask in asks],
        "output_tokens": [ask.output_tokens for ask in asks],
        "outcome": [ask.outcome for ask in asks],
        "attempts": [ask.attempts for ask in asks],
        "worker": [ask.worker for ask in asks],
        "hit": [int(ask.hit) for ask in asks],
        "delivered": [ask.delivered for ask in asks],
        "ttft_us": [ask.first_us - ask.arrived_us if ask.first_us >= 0 else -1 for ask in asks],
        "total_us": [ask.done_us - ask.arrived_us if ask.outcome == COMPLETED else -1 for ask in asks],
        "wait_us": [ask.began_us - ask.arrived_us if ask.began_us >= 0 else -1 for ask in asks],
        "price": [ask.price for ask in asks],
    }


def _of_world(world: World) -> dict[str, Scalar]:
    fetched = sum(worker.engine.fetched for worker in world.workers)
    return {
        "fetched_mb": round(fetched * world.scenario.workers.adapter_kb / 1000, 3),
        "fairness": jain([worker.tokens for worker in world.workers]),
        **_of_money(world.accounts.settle()),
    }


def _of_virtual(scenario: Scenario, told: Told) -> dict[str, Scalar]:
    return {
        "fetched_mb": round(told.fetched * scenario.workers.adapter_kb / 1000, 3),
        "fairness": jain(told.tokens),
        **_of_money(told.settlement),
    }


def _of_money(settlement: Settlement) -> dict[str, Scalar]:
    return {
        "receipts": settlement.receipts,
        "volume": settlement.volume,
        **{role: settlement.earned.get(role, 0) for role in ROLES},
        "payees": settlement.payees,
        "epochs": settlement.epochs,
        "conserved": int(settlement.conserved),
    }


def _of_crowd(crowd: Crowd) -> dict[str, Scalar]:
    return {
        "fetched_mb": round(crowd.fetched * crowd.scenario.workers.adapter_kb / 1000, 3),
        "fairness": jain(crowd.tokens),
        "volume": crowd.volume,
    }


def summarise(scenario: Scenario, rows: Columns) -> dict[str, Scalar]:
    """The part of a summary that comes from the asks."""
    counted = np.asarray(rows["arrived_us"], np.int64) >= scenario.warmup_ms * 1000
    table = {name: _array(values)[counted] for name, values in rows.items() if name != "outcome"}
    total, ttft, output = table["total_us"], table["ttft_us"], table["output_tokens"]
    done = total >= 0
    token = (total - ttft) // np.maximum(1, output - 1)
    with_adapter = done & (table["adapter"] >= 0)
    good = done & (ttft <= scenario.targets.ttft_ms * 1000) & (token <= scenario.targets.token_ms * 1000)
    counted_s = (scenario.duration_ms - scenario.warmup_ms) / 1000
    return {
        "asks": len(total),
        "completed": int(done.sum()),
        "goodput": ratio(int(good.sum()), len(total)),
        **_percentiles(scenario, table, done, token),
        "hit_rate": ratio(int(table["hit"][with_adapter].sum()), int(with_adapter.sum())),
        "attempts": ratio(int(table["attempts"].sum()), len(total)),
        "tokens_per_s": round(int(table["delivered"].sum()) / counted_s, 3),
    }


def _percentiles(
    scenario: Scenario, table: dict[str, Ints], done: npt.NDArray[np.bool_], token: Ints
) -> dict[str, Scalar]:
    deadline_us = scenario.work.deadline_ms * 1000
    ttft = np.where(table["ttft_us"] >= 0, table["ttft_us"], deadline_us)
    total = np.where(done, table["total_us"], deadline_us)
    token = token[done & (table["output_tokens"] > 1)]
    return {
        "wait_p99_ms": percentile_ms(np.where(done, table["wait_us"], deadline_us), 99),
        "ttft_p50_ms": percentile_ms(ttft, 50),
        "ttft_p90_ms": percentile_ms(ttft, 90),
        "ttft_p95_ms": percentile_ms(ttft, 95),
        "ttft_p99_ms": percentile_ms(ttft, 99),
        "token_p50_ms": percentile_ms(token, 50),
        "token_p95_ms": percentile_ms(token, 95),
        "token_p99_ms": percentile_ms(token, 99),
        "total_p50_ms": percentile_ms(total, 50),
        "total_p99_ms": percentile_ms(total, 99),
    }


def _array(values: list[Any]) -> Ints:
    return np.asarray(values, np.int64)


def _check(scenario: Scenario) -> None:
    check_scenario(scenario)
    check_lengths(scenario.work)
    check_trace(scenario.work)


def _locate(scenario: Scenario, folder: Path) -> Scenario:
    return replace(scenario, work=locate_trace(scenario.work, folder))


KIND = Kind(
    name="service",
    config=Scenario,
    run=run_service,
    check=_check,
    locate=_locate,
    real=lambda scenario: scenario.driver == "virtual",
    inputs=lambda scenario: trace_files(scenario.work),
    label=lambda scenario: scenario.scheduler.policy,
    columns=("asks", "completed", "goodput", "ttft_p50_ms", "ttft_p99_ms", "hit_rate", "volume"),
    figures=Figures(
        rows=True,
        panels=(
            Panel("time to first token", ("ttft_p50_ms", "ttft_p99_ms"), "ms", log=True),
            Panel("time to whole answer", ("total_p50_ms", "total_p99_ms"), "ms", log=True),
            Panel("adapter already loaded", ("hit_rate",), "share"),
            Panel("answered within targets", ("goodput",), "share"),
        ),
    ),
)
