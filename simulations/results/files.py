"""The files of results: a summary, tables, a list of failures and a manifest, exactly those of one sweep."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..experiment.scenario import Experiment
from ..experiment.sources import code_digest, versions_of
from .formats import (
    ArmResult,
    Failure,
    RunResult,
    summary_columns,
    table_columns,
    to_bytes,
    to_columns,
    write_bytes,
)
from .kept import MANIFEST, PLOT, REPORT, listed

SUMMARY, FAILED = "summary.csv", "failed.csv"


@dataclass(frozen=True, slots=True)
class Files:
    """What was written into a folder, and the results themselves, without tables that no picture needs.

    `missing` counts the runs that have no result: those that `failed`, and those that an interruption left.
    """

    folder: Path
    tables: tuple[Path, ...]
    results: tuple[RunResult, ...]
    failed: tuple[Failure, ...] = ()
    missing: int = 0

    @property
    def summary(self) -> Path:
        """A row an arm and seed."""
        return self.folder / SUMMARY

    @property
    def manifest(self) -> Path:
        """What the files were made of, and their digests."""
        return self.folder / MANIFEST


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is to be run, and where and how its results are written."""

    experiment: Experiment
    seeds: tuple[int, ...]
    folder: Path
    form: str = "csv"

    @property
    def size(self) -> int:
        """How many runs."""
        return len(self.experiment.arms) * len(self.seeds)


def write_files(sweep: Sweep, results: Iterable[RunResult], failed: Sequence[Failure] = ()) -> Files:
    """The files of results, in place of those that another sweep of this folder wrote. The summary is CSV
    whatever the format, for people and for `compare`."""
    folder, form = sweep.folder, sweep.form
    folder.mkdir(parents=True, exist_ok=True)
    before, digests, kept = listed(folder), dict[str, str](), list[RunResult]()
    for result in results:
        for name, columns in table_columns(result).items():
            digests |= _write(folder, f"{name}-{result.seed}.{form}", to_bytes(columns, form))
        kept.append(_without_tables(sweep.experiment, result))
    tables = tuple(folder / name for name in digests)
    digests |= _write_summaries(sweep, [arm for result in kept for arm in result.arms], failed)
    made = [(arm.arm, arm.seed) for result in kept for arm in result.arms]
    manifest = manifest_json(sweep.experiment, sweep.seeds, digests, missing=_missing(sweep, made))
    for name in {*before, PLOT, REPORT} - {*digests}:
        (folder / name).unlink(missing_ok=True)
    write_bytes(folder / MANIFEST, manifest.encode())
    return Files(folder, tables, tuple(kept), tuple(failed), sweep.size - len(made))


def _write_summaries(sweep: Sweep, arms: list[ArmResult], failed: Sequence[Failure]) -> dict[str, str]:
    digests, summary = dict[str, str](), summary_columns(arms)
    if arms:
        digests |= _write(sweep.folder, SUMMARY, to_bytes(summary, "csv"))
    if arms and sweep.form != "csv":
        digests |= _write(sweep.folder, f"summary.{sweep.form}", to_bytes(summary, sweep.form))
    if failed:
        digests |= _write(sweep.folder, FAILED, to_bytes(to_columns([each.row for each in failed]), "csv"))
    return digests


def _write(folder: Path, name: str, content: bytes) -> dict[str, str]:
    write_bytes(folder / name, content)
    return {name: hashlib.sha256(content).hexdigest()}


def _without_tables(experiment: Experiment, result: RunResult) -> RunResult:
    """With the tables only that a picture needs: a large sweep has more of them than memory."""
    curve = experiment.kind.figures.curve
    names = {curve[0]} if curve else set[str]()
    return RunResult(result.seed, tuple(_slim(arm, names) for arm in result.arms))


def _slim(arm: ArmResult, names: set[str]) -> ArmResult:
    tables = {name: table for name, table in arm.outcome.tables.items() if name in names}
    return replace(arm, outcome=replace(arm.outcome, tables=tables))


def _missing(sweep: Sweep, made: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    have = {*made}
    wanted = [(arm.label, seed) for seed in sweep.seeds for arm in sweep.experiment.arms]
    return [{"arm": label, "seed": seed} for label, seed in wanted if (label, seed) not in have]


def manifest_json(
    experiment: Experiment,
    seeds: Sequence[int],
    files: Mapping[str, str],
    missing: Sequence[Mapping[str, Any]] = (),
) -> str:
    """What the files were made of and by: scenario, seeds, versions, the runs that have no result, and the
    sha-256 of each file, read or written."""
    manifest = {
        "scenario": experiment.name,
        "about": experiment.about,
        "kind": experiment.kind.name,
        "scenario_sha256": experiment.digest,
        "arms": {arm.label: asdict(arm.written) for arm in experiment.arms},
        "inputs": dict(experiment.inputs),
        "swept": list(experiment.swept),
        "seeds": list(seeds),
        "missing": list(missing),
        "code_sha256": code_digest(experiment),
        **versions_of(experiment),
        "files": dict(sorted(files.items())),
    }
    return json.dumps(manifest, indent=2, sort_keys=True) + "\n"
