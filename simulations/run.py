"""Running experiments: every arm with every seed, in one process or on many machines, with the same files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..protocol.errors import ConfigError
from .kinds import kind_of
from .pool import Pool, spread
from .results import (
    ArmResult,
    RunResult,
    manifest_json,
    summary_columns,
    table_columns,
    to_bytes,
    write_bytes,
)
from .scenario import Arm, Experiment

MAX_SEED = (1 << 64) - 1
MAX_SEEDS = 10_000
Report = Callable[[int, int, str], None]
"""Told after each run: how many are done, of how many, and which it was."""


@dataclass(frozen=True, slots=True)
class Files:
    """What `run_seeds` wrote, and the results themselves."""

    summary: Path
    tables: tuple[Path, ...]
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
    return ArmResult(arm.label, seed, arm.choice, kind_of(arm.kind).run(arm.scenario, seed))


def run_all(
    experiment: Experiment, seeds: Sequence[int], pool: Pool | None = None, report: Report | None = None
) -> tuple[RunResult, ...]:
    """Every arm with every seed, in order, whoever computes them. Raises ConfigError."""
    _check(seeds)
    work = [(arm, seed) for seed in seeds for arm in experiment.arms]
    done: list[ArmResult] = []
    for result in spread(run_arm, work, pool or Pool()):
        done.append(result)
        if report is not None:
            report(len(done), len(work), f"{result.arm}, seed {result.seed}")
    width = len(experiment.arms)
    return tuple(
        RunResult(experiment.name, experiment.digest, seed, tuple(done[at * width : (at + 1) * width]))
        for at, seed in enumerate(seeds)
    )


def _check(seeds: Sequence[int]) -> None:
    if not seeds:
        raise ConfigError("no seeds to run; write them like 7 or 0-9")


def run_seeds(
    experiment: Experiment,
    seeds: Sequence[int],
    out_dir: Path,
    pool: Pool | None = None,
    report: Report | None = None,
    form: str = "csv",
) -> Files:
    """Run and write `summary.csv`, `TABLE-SEED.csv` (or `.parquet`) and `manifest.json` into `out_dir`, which
    is made if need be.

    Raises OSError or MissingDependency where nothing could be written, before anything is computed.
    """
    _check(seeds)
    out_dir.mkdir(parents=True, exist_ok=True)
    to_bytes({"seed": list(seeds)}, form)
    return write_files(experiment, run_all(experiment, seeds, pool, report), out_dir, form)


def write_files(experiment: Experiment, results: Sequence[RunResult], out_dir: Path, form: str) -> Files:
    """The files of results. The summary is CSV whatever the format, for people and for `compare`."""
    out_dir.mkdir(parents=True, exist_ok=True)
    summary = summary_columns(arm for result in results for arm in result.arms)
    contents = {"summary.csv": to_bytes(summary, "csv")}
    if form != "csv":
        contents[f"summary.{form}"] = to_bytes(summary, form)
    for result in results:
        for name, columns in table_columns(result).items():
            contents[f"{name}-{result.seed}.{form}"] = to_bytes(columns, form)
    for name, content in contents.items():
        write_bytes(out_dir / name, content)
    manifest = manifest_json(experiment, [result.seed for result in results], contents)
    write_bytes(out_dir / "manifest.json", manifest.encode())
    tables = tuple(out_dir / name for name in contents if not name.startswith("summary."))
    return Files(out_dir / "summary.csv", tables, out_dir / "manifest.json", tuple(results))
