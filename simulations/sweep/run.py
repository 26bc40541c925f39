"""Running experiments: every arm with every seed, in one process or on many machines, with the same files.

A run that fails is told with its reason, and the others go on. On disk each run is kept as it ends, so that
an interrupted sweep loses only what was under way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ...protocol.errors import ConfigError
from ..experiment.kinds import kind_of
from ..experiment.scenario import Arm, Experiment
from ..results.files import Files, Sweep, write_files
from ..results.formats import ArmResult, Failure, RunResult, to_bytes
from ..results.kept import Kept, opened
from .attempts import Broken
from .pool import Pool, spread

MAX_SEED = (1 << 64) - 1
MAX_SEEDS = 10_000
Report = Callable[[int, int, str], None]
"""Told after each run: how many are done, of how many, and which it was."""
Work = list[tuple[Arm, int]]


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of an experiment in memory."""

    results: tuple[RunResult, ...]
    failed: tuple[Failure, ...]


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
    """All arms of an experiment with one seed; errors pass through."""
    return RunResult(seed, tuple(run_arm(arm, seed) for arm in experiment.arms))


def run_arm(arm: Arm, seed: int) -> ArmResult:
    """One arm with one seed."""
    return ArmResult(arm.label, seed, arm.choice, kind_of(arm.kind).run(arm.scenario, seed))


def run_all(
    experiment: Experiment, seeds: Sequence[int], pool: Pool | None = None, report: Report | None = None
) -> Ran:
    """Every arm with every seed, whoever computes them. Raises ConfigError."""
    _check(seeds)
    work = _work(experiment, seeds)
    found: dict[tuple[str, int], ArmResult] = {}
    failed: list[Failure] = []
    for ended in _spread(work, pool or Pool(), _Counted(report, 0, len(work))):
        if isinstance(ended, Failure):
            failed.append(ended)
        else:
            found[ended.arm, ended.seed] = ended
    return Ran(_in_order(experiment, seeds, found), _sorted(failed, work))


def run_sweep(
    sweep: Sweep, pool: Pool | None = None, report: Report | None = None, *, fresh: bool = False
) -> Files:
    """Run what the sweep's folder does not have yet, keep each run as it ends, and write `summary.csv`,
    `TABLE-SEED.csv` (or `.parquet`) and `manifest.json`; after an interruption too, of what is done by then.

    Raises ConfigError where the folder holds another sweep's runs, unless `fresh`; OSError or
    MissingDependency where nothing could be written, before anything is computed.
    """
    _check(sweep.seeds)
    to_bytes({"seed": list(sweep.seeds)}, sweep.form)
    work = _work(sweep.experiment, sweep.seeds)
    with opened(sweep.experiment, sweep.folder, fresh=fresh) as kept:
        missing = [(arm, seed) for arm, seed in work if not kept.has(arm, seed)]
        counted, failed = _Counted(report, len(work) - len(missing), len(work)), list[Failure]()
        try:
            for ended in _spread(missing, pool or Pool(), counted):
                if isinstance(ended, Failure):
                    failed.append(ended)
                else:
                    kept.put(ended)
        except BaseException as error:
            if not isinstance(error, Exception):
                _write(sweep, kept, _sorted(failed, work))
            raise
        return _write(sweep, kept, _sorted(failed, work))


def _write(sweep: Sweep, kept: Kept, failed: tuple[Failure, ...]) -> Files:
    return write_files(sweep, read_kept(sweep, kept), failed)


def read_kept(sweep: Sweep, kept: Kept) -> Iterator[RunResult]:
    """The runs of a sweep that are done, a seed after the other."""
    for seed in sweep.seeds:
        arms = tuple(kept.get(arm, seed) for arm in sweep.experiment.arms if kept.has(arm, seed))
        if arms:
            yield RunResult(seed, arms)


def _check(seeds: Sequence[int]) -> None:
    if not seeds:
        raise ConfigError("no seeds to run; write them like 7 or 0-9")


def _work(experiment: Experiment, seeds: Sequence[int]) -> Work:
    return [(arm, seed) for seed in seeds for arm in experiment.arms]


class _Counted:
    """Tells of each run, and how many that makes."""

    def __init__(self, report: Report | None, done: int, whole: int) -> None:
        self._report, self._done, self._whole = report, done, whole
        if report is not None and done:
            report(done, whole, "kept before")

    def __call__(self, which: str) -> None:
        self._done += 1
        if self._report is not None:
            self._report(self._done, self._whole, which)


def _spread(work: Work, pool: Pool, counted: _Counted) -> Iterator[ArmResult | Failure]:
    """Results and failures as runs end."""
    for place, ended in spread(run_arm, work, pool):
        arm, seed = work[place]
        if isinstance(ended, Broken):
            yield Failure(arm.label, seed, arm.choice, ended.reason)
            counted(f"{arm.label}, seed {seed}: FAILED, {ended.reason}")
        else:
            yield ended
            counted(f"{arm.label}, seed {seed}")


def _in_order(
    experiment: Experiment, seeds: Sequence[int], found: dict[tuple[str, int], ArmResult]
) -> tuple[RunResult, ...]:
    keys = [[(arm.label, seed) for arm in experiment.arms] for seed in seeds]
    runs = (
        RunResult(seed, tuple(found[key] for key in own if key in found))
        for seed, own in zip(seeds, keys, strict=True)
    )
    return tuple(run for run in runs if run.arms)


def _sorted(failed: list[Failure], work: Work) -> tuple[Failure, ...]:
    places = {(arm.label, seed): place for place, (arm, seed) in enumerate(work)}
    return tuple(sorted(failed, key=lambda each: places[each.arm, each.seed]))
