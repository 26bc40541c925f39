"""What a run leaves behind: a row an ask, a summary an arm, CSV and JSON files that are the same for the same
seed.

Rules of this file: whole numbers wherever one can count, ratios rounded to six places; nothing in a file
depends on the clock, the machine or the order in which runs ended. An ask without a first token (or an end)
counts with its deadline in percentiles, so that a policy cannot look fast by giving up.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..protocol import credits as protocol_room
from ..scheduler import core as scheduler_room
from .agents import World
from .asks import COMPLETED, Ask
from .measures import jain, percentile_ms, ratio
from .scenario import Arm, Experiment, Scenario


@dataclass(frozen=True, slots=True)
class AskRow:
    """One ask of one arm. `ttft_us` and `total_us` run from its arrival, -1 where it never came to that."""

    arm: str
    seed: int
    ask: int
    arrived_us: int
    adapter: int
    prompt_tokens: int
    output_tokens: int
    outcome: str
    attempts: int
    worker: int
    hit: int
    delivered: int
    ttft_us: int
    total_us: int
    price: int


@dataclass(frozen=True, slots=True)
class Summary:
    """One arm with one seed, over the asks that arrived after the warm-up; money and transfers are of the
    whole run.

    `goodput` is the share of asks answered within the scenario's targets, `hit_rate` of completed asks with
    an adapter that met it in a slot; `fairness` is Jain's index of tokens over workers. `conserved`: see
    `accounts.Settlement`.
    """

    arm: str
    seed: int
    asks: int
    completed: int
    goodput: float
    ttft_p50_ms: float
    ttft_p90_ms: float
    ttft_p99_ms: float
    token_p50_ms: float
    token_p99_ms: float
    total_p50_ms: float
    total_p99_ms: float
    hit_rate: float
    attempts: float
    tokens_per_s: float
    fetched_mb: float
    fairness: float
    receipts: int
    volume: int
    platform: int
    worker: int
    author: int
    work_pool: int
    contributors: int
    payees: int
    epochs: int
    conserved: int


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One arm with one seed. `events` says how much the kernel did."""

    summary: Summary
    asks: tuple[AskRow, ...]
    events: int


@dataclass(frozen=True, slots=True)
class RunResult:
    """All arms with one seed, in the order of the sweep."""

    name: str
    digest: str
    seed: int
    arms: tuple[ArmResult, ...]


def summarise(arm: Arm, seed: int, world: World) -> ArmResult:
    """The results of a world that has run."""
    rows = tuple(_row(arm.label, seed, ask) for ask in world.asks)
    settlement = world.accounts.settle()
    counted = [row for row in rows if row.arrived_us >= arm.scenario.warmup_ms * 1000]
    earned = settlement.earned
    summary = Summary(
        arm=arm.label,
        seed=seed,
        **_service(arm.scenario, counted),
        fetched_mb=round(
            sum(w.engine.fetched for w in world.workers) * arm.scenario.workers.adapter_kb / 1000, 3
        ),
        fairness=jain([worker.tokens for worker in world.workers]),
        receipts=settlement.receipts,
        volume=settlement.volume,
        platform=earned.get("platform", 0),
        worker=earned.get("worker", 0),
        author=earned.get("author", 0),
        work_pool=earned.get("work_pool", 0),
        contributors=earned.get("contributor", 0),
        payees=settlement.payees,
        epochs=settlement.epochs,
        conserved=int(settlement.conserved),
    )
    return ArmResult(summary, rows, world.kernel.events)


def _service(scenario: Scenario, rows: Sequence[AskRow]) -> dict[str, Any]:
    """The part of a summary that comes from the asks."""
    deadline_us, targets = scenario.work.deadline_ms * 1000, scenario.targets
    done = [row for row in rows if row.outcome == COMPLETED]
    with_adapter = [row for row in done if row.adapter >= 0]
    ttft = [row.ttft_us if row.ttft_us >= 0 else deadline_us for row in rows]
    total = [row.total_us if row.outcome == COMPLETED else deadline_us for row in rows]
    token = [_token_us(row) for row in done if row.output_tokens > 1]
    good = [
        row
        for row in done
        if row.ttft_us <= targets.ttft_ms * 1000 and _token_us(row) <= targets.token_ms * 1000
    ]
    counted_s = (scenario.duration_ms - scenario.warmup_ms) / 1000
    return {
        "asks": len(rows),
        "completed": len(done),
        "goodput": ratio(len(good), len(rows)),
        "ttft_p50_ms": percentile_ms(ttft, 50),
        "ttft_p90_ms": percentile_ms(ttft, 90),
        "ttft_p99_ms": percentile_ms(ttft, 99),
        "token_p50_ms": percentile_ms(token, 50),
        "token_p99_ms": percentile_ms(token, 99),
        "total_p50_ms": percentile_ms(total, 50),
        "total_p99_ms": percentile_ms(total, 99),
        "hit_rate": ratio(sum(row.hit for row in with_adapter), len(with_adapter)),
        "attempts": ratio(sum(row.attempts for row in rows), len(rows)),
        "tokens_per_s": round(sum(row.delivered for row in rows) / counted_s, 3),
    }


def _row(arm: str, seed: int, ask: Ask) -> AskRow:
    return AskRow(
        arm=arm,
        seed=seed,
        ask=ask.number,
        arrived_us=ask.arrived_us,
        adapter=ask.adapter,
        prompt_tokens=ask.prompt_tokens,
        output_tokens=ask.output_tokens,
        outcome=ask.outcome,
        attempts=ask.attempts,
        worker=ask.worker,
        hit=int(ask.hit),
        delivered=ask.delivered,
        ttft_us=ask.first_us - ask.arrived_us if ask.first_us >= 0 else -1,
        total_us=ask.done_us - ask.arrived_us if ask.outcome == COMPLETED else -1,
        price=ask.price,
    )


def _token_us(row: AskRow) -> int:
    """Time per output token after the first (TPOT)."""
    return (row.total_us - row.ttft_us) // max(1, row.output_tokens - 1)


# ---- files


def summary_csv(summaries: Sequence[Summary]) -> str:
    """A header and a line an arm and seed."""
    return _csv(Summary, summaries)


def asks_csv(rows: Iterable[AskRow]) -> str:
    """A header and a line an ask."""
    return _csv(AskRow, rows)


def _csv(kind: type[Summary] | type[AskRow], rows: Iterable[Summary] | Iterable[AskRow]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([each.name for each in fields(kind)])
    writer.writerows(astuple(row) for row in rows)
    return text.getvalue()


def manifest_json(experiment: Experiment, seeds: Sequence[int], files: dict[str, str]) -> str:
    """What the files were made of and by: scenario, seeds, versions, and each file's sha-256."""
    manifest = {
        "scenario": experiment.name,
        "about": experiment.about,
        "scenario_sha256": experiment.digest,
        "arms": {arm.label: asdict(arm.scenario) for arm in experiment.arms},
        "seeds": list(seeds),
        "code_sha256": code_digest(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "files": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in sorted(files.items())},
    }
    return json.dumps(manifest, indent=2, sort_keys=True) + "\n"


def code_digest() -> str:
    """The sha-256 over the sources that decide a result: protocol, scheduler and simulations."""
    digest = hashlib.sha256()
    for module in (protocol_room.__file__, scheduler_room.__file__, __file__):
        room = Path(module).parent
        for path in sorted(room.glob("*.py")):
            digest.update(f"{room.name}/{path.name}".encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8", newline="")
    os.replace(partial, path)
