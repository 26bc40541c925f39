"""Whether the default policy is the best: `python -m benchmarks.policies [--json] [--seeds 100-104]`.

Every policy meets the same asks, workers and failures: each combination of skew, churn and heterogeneity,
with seeds that no parameter was tuned on (tuning used those below 100). A policy beats the default in a cell
where the 95 % interval of the paired differences over seeds lies wholly on its side.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import asdict, dataclass
from itertools import product
from multiprocessing import get_context
from typing import Any

from commonlore.scheduler.policies import DEFAULT_POLICY, POLICIES
from commonlore.simulations.experiment.measures import Interval, interval
from commonlore.simulations.experiment.scenario import read_experiment
from commonlore.simulations.sweep.run import parse_seeds, run_arm

SKEW = {"skew 0.6": 0.6, "skew 1": 1.0, "skew 1.4": 1.4}
CHURN = {"no churn": 0, "churn": 120_000}
ABSENT = 0.55
"""The rate of asks where workers come and go, beside where they do not: the same work for who is left."""
MIX = {"like workers": 0.1, "unlike workers": 0.6}
SMALL: dict[str, Any] = {
    "name": "policies",
    "about": "small workers on home lines",
    "warmup_ms": 30_000,
    "duration_ms": 150_000,
    "network": {"gateways": 2},
    "workers": {"count": 24, "slots": 8},
    "work": {"rate_per_s": 22.0},
    "adapters": {"count": 150},
    "churn": {"shape": 0.7, "mean_absence_ms": 20_000},
    "rows": False,
    "money": {"trees": False},
}
LARGE: dict[str, Any] = {
    "name": "policies",
    "about": "GPU workers and conversations",
    "warmup_ms": 20_000,
    "duration_ms": 60_000,
    "network": {"gateways": 3},
    "workers": {
        "count": 60,
        "max_batch": 32,
        "max_queue": 64,
        "slots": 16,
        "disk": 256,
        "step_us": 9_000,
        "step_us_per_sequence": 250,
        "prefill_us_per_token": 40,
        "adapter_kb": 80_000,
        "download_kb_s": 100_000,
        "load_ms": 30,
    },
    "work": {"rate_per_s": 120.0, "lengths": "azure_conversation"},
    "adapters": {"count": 800},
    "churn": {"shape": 0.7, "mean_absence_ms": 20_000},
    "targets": {"ttft_ms": 1_000, "token_ms": 30},
    "rows": False,
    "money": {"trees": False},
}
SETTINGS = {"small": SMALL, "large": LARGE}


@dataclass(frozen=True, slots=True)
class Work:
    """One run: a cell, a policy and a seed."""

    cell: str
    policy: str
    seed: int
    table: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of it."""

    cell: str
    policy: str
    seed: int
    ttft_p50_ms: float
    ttft_p99_ms: float
    goodput: float
    hit_rate: float
    completed: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """One policy beside the default in one cell; the differences are default minus policy."""

    cell: str
    policy: str
    ttft_p50_ms: float
    ttft_p99_ms: float
    goodput: float
    p99_difference_ms: Interval
    goodput_difference: Interval

    @property
    def beats_p99(self) -> bool:
        """Whether the policy's p99 is surely lower."""
        return self.p99_difference_ms.low > 0

    @property
    def beats_goodput(self) -> bool:
        """Whether the policy's goodput is surely higher."""
        return self.goodput_difference.high < 0


def cells(names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every combination, with its scenario."""
    for name in names:
        for skew, churn, mix in product(SKEW, CHURN, MIX):
            table = deepcopy(SETTINGS[name])
            table["adapters"]["zipf"] = SKEW[skew]
            table["churn"]["mean_lifetime_ms"] = CHURN[churn]
            table["work"]["rate_per_s"] *= ABSENT if CHURN[churn] else 1.0
            table["workers"]["speed_sigma"] = MIX[mix]
            yield f"{name}, {skew}, {churn}, {mix}", table


def see(work: Work) -> Seen:
    """Run it."""
    table = {**work.table, "scheduler": {"policy": work.policy}}
    summary = run_arm(read_experiment(table).arms[0], work.seed).outcome.summary
    figures = [float(summary[name]) for name in ("ttft_p50_ms", "ttft_p99_ms", "goodput", "hit_rate")]
    completed = float(summary["completed"]) / max(1.0, float(summary["asks"]))
    return Seen(work.cell, work.policy, work.seed, *figures, completed)


def judge(seen: Sequence[Seen]) -> list[Verdict]:
    """Every policy beside the default, cell by cell."""
    by_run = {(each.cell, each.policy, each.seed): each for each in seen}
    seeds = sorted({each.seed for each in seen})
    verdicts: list[Verdict] = []
    for cell, policy in dict.fromkeys((each.cell, each.policy) for each in seen):
        own = [by_run[cell, policy, seed] for seed in seeds]
        default = [by_run[cell, DEFAULT_POLICY, seed] for seed in seeds]
        pairs = list(zip(default, own, strict=True))
        verdicts.append(
            Verdict(
                cell,
                policy,
                _mean([each.ttft_p50_ms for each in own]),
                _mean([each.ttft_p99_ms for each in own]),
                _mean([each.goodput for each in own]),
                interval([a.ttft_p99_ms - b.ttft_p99_ms for a, b in pairs]),
                interval([a.goodput - b.goodput for a, b in pairs]),
            )
        )
    return verdicts


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)


def show(verdicts: Sequence[Verdict]) -> None:
    """A table: p99 of the first token in ms and goodput, marked where a policy beats the default."""
    policies = list(dict.fromkeys(each.policy for each in verdicts))
    by_place = {(each.cell, each.policy): each for each in verdicts}
    width = max(len(each.cell) for each in verdicts)
    print(" " * width, *(f"{policy[:17]:>17}" for policy in policies))
    for cell in dict.fromkeys(each.cell for each in verdicts):
        row = [by_place[cell, policy] for policy in policies]
        texts = [
            f"{each.ttft_p99_ms:.0f}{'!' if each.beats_p99 else ' '}"
            f"{each.goodput:.3f}{'!' if each.beats_goodput else ' '}"
            for each in row
        ]
        print(f"{cell:<{width}}", *(f"{text:>17}" for text in texts))
    lost = [each for each in verdicts if each.beats_p99 or each.beats_goodput]
    for each in lost:
        print(f"{each.policy} beats the default, {each.cell}:")
        print(f"  p99 {each.p99_difference_ms}, goodput {each.goodput_difference}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="100-104")
    parser.add_argument("--policy", nargs="+", default=list(POLICIES))
    parser.add_argument("--setting", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument("--cell", default="", help="only cells whose name has this in it")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    policies = list(dict.fromkeys([DEFAULT_POLICY, *given.policy]))
    work = [
        Work(cell, policy, seed, table)
        for cell, table in cells(given.setting)
        if given.cell in cell
        for policy in policies
        for seed in parse_seeds(given.seeds)
    ]
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        verdicts = judge(list(pool.map(see, work, chunksize=4)))
    show(verdicts)
    if given.json:
        marks = [{"beats_p99": each.beats_p99, "beats_goodput": each.beats_goodput} for each in verdicts]
        rows = [asdict(each) | mark for each, mark in zip(verdicts, marks, strict=True)]
        print(json.dumps({"policies": rows}))


if __name__ == "__main__":
    main()
