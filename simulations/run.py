"""Running experiments: every arm with every seed, in one process or several, with the same files."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..protocol.errors import ConfigError
from .agents import World
from .results import ArmResult, RunResult, asks_csv, manifest_json, summarise, summary_csv, write_text
from .scenario import Arm, Experiment

MAX_SEED = (1 << 64) - 1
MAX_SEEDS = 10_000
Report = Callable[[int, int, str], None]
"""Told after each run: how many are done, of how many, and which it was."""


@dataclass(frozen=True, slots=True)
class Files:
    """What `run_seeds` wrote, and the results themselves."""

    summary: Path
    asks: tuple[Path, ...]
    manifest: Path
    results: tuple[RunResult, ...]


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from text such as `7`, `0-9` or `1,4,8-11`, in that order. Raises ConfigError."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() or not dash)):
            raise ConfigError(f"not seeds: {text!r}; write them like 7, 0-9 or 1,4,8-11")
        low, high = int(first), int(last or first)
        if high < low or high > MAX_SEED or high - low >= MAX_SEEDS:
            raise ConfigError(f"not seeds: {part.strip()!r}; a range rises and has at most {MAX_SEEDS} seeds")
        seeds.extend(range(low, high + 1))
    if len(set(seeds)) != len(seeds):
        raise ConfigError(f"a seed occurs twice in {text!r}; the same seed gives the same result")
    return tuple(seeds)


def run(experiment: Experiment, seed: int) -> RunResult:
    """All arms of an experiment with one seed."""
    arms = tuple(run_arm(arm, seed) for arm in experiment.arms)
    return RunResult(experiment.name, experiment.digest, seed, arms)


def run_arm(arm: Arm, seed: int) -> ArmResult:
    """One arm with one seed."""
    world = World(arm.scenario, seed)
    world.run()
    return summarise(arm, seed, world)


def run_seeds(
    experiment: Experiment, seeds: Sequence[int], out_dir: Path, jobs: int = 1, report: Report | None = None
) -> Files:
    """Run and write `summary.csv`, `asks-SEED.csv` and `manifest.json` into `out_dir`, which is made if need
    be.
    """
    if not seeds:
        raise ConfigError("no seeds to run; write them like 7 or 0-9")
    results = _collect(experiment, seeds, jobs, report)
    out_dir.mkdir(parents=True, exist_ok=True)
    texts = {"summary.csv": summary_csv([arm.summary for result in results for arm in result.arms])}
    for result in results:
        texts[f"asks-{result.seed}.csv"] = asks_csv(row for arm in result.arms for row in arm.asks)
    for name, text in texts.items():
        write_text(out_dir / name, text)
    write_text(out_dir / "manifest.json", manifest_json(experiment, seeds, texts))
    asks = tuple(out_dir / f"asks-{seed}.csv" for seed in seeds)
    return Files(out_dir / "summary.csv", asks, out_dir / "manifest.json", results)


def _collect(
    experiment: Experiment, seeds: Sequence[int], jobs: int, report: Report | None
) -> tuple[RunResult, ...]:
    """Every arm with every seed, in order, whoever computes them."""
    work = [(arm, seed) for seed in seeds for arm in experiment.arms]
    done: list[ArmResult] = []
    for result in _map(work, jobs):
        done.append(result)
        if report is not None:
            report(len(done), len(work), f"{result.summary.arm}, seed {result.summary.seed}")
    width = len(experiment.arms)
    return tuple(
        RunResult(experiment.name, experiment.digest, seed, tuple(done[at * width : (at + 1) * width]))
        for at, seed in enumerate(seeds)
    )


def _map(work: Sequence[tuple[Arm, int]], jobs: int) -> Iterator[ArmResult]:
    arms, seeds = [arm for arm, _ in work], [seed for _, seed in work]
    if min(jobs, len(work)) <= 1:
        yield from map(run_arm, arms, seeds)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(work)), mp_context=context) as pool:
        yield from pool.map(run_arm, arms, seeds)
