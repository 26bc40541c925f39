"""For notebooks and scripts: run an experiment, and have its results as tables and as a picture.

from commonlore.simulations.api import simulate
results = simulate("E1", seeds=range(3), jobs=2, **{"adapters.zipf": [0.6, 1.4], "duration_ms": 60_000})
results                      # in a notebook: the figure and the table
results.columns["goodput"]   # a list, a row an arm and seed
results.frame()              # a pandas data frame, where pandas is installed
results.table("asks")        # every ask of every arm and seed
"""

from __future__ import annotations

import base64
import tempfile
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

from ..protocol.errors import ConfigError, MissingDependency
from .experiment.scenario import Experiment, load_experiment, scenario_path
from .results.files import Files, Sweep, write_files
from .results.formats import Failure, RunResult, by_arm, summary_columns, table_columns
from .results.kept import opened
from .results.plot import draw
from .results.report import figures_table, write_pictures
from .sweep.pool import Pool
from .sweep.run import Report, read_kept, run_all, run_sweep


@dataclass(frozen=True, slots=True, repr=False)
class Results:
    """What an experiment gave, in memory; `failed` are the runs that gave nothing."""

    experiment: Experiment
    runs: tuple[RunResult, ...]
    failed: tuple[Failure, ...] = ()

    def __repr__(self) -> str:
        name, arms = self.experiment.name, len(self.experiment.arms)
        return f"<Results of {name}: {arms} arms, {len(self.runs)} seeds, {len(self.failed)} runs failed>"

    @property
    def columns(self) -> dict[str, list[Any]]:
        """The summary: a row an arm and seed."""
        return summary_columns(arm for run in self.runs for arm in run.arms)

    @property
    def tables(self) -> tuple[str, ...]:
        """The names that `table` knows."""
        return tuple(dict.fromkeys(name for run in self.runs for name in table_columns(run)))

    def table(self, name: str) -> dict[str, list[Any]]:
        """A table of all arms and seeds, such as `asks`, with its columns; the first two say arm and seed.

        Raises ConfigError for an unknown name.
        """
        joined: dict[str, list[Any]] = {}
        for run in self.runs:
            columns = table_columns(run).get(name)
            if columns is None:
                known = ", ".join(self.tables) or "none"
                raise ConfigError(f"no table {name!r}; {self.experiment.name} has: {known}")
            parts = {"arm": columns["arm"], "seed": [run.seed] * len(columns["arm"]), **columns}
            for column, values in parts.items():
                joined.setdefault(column, []).extend(values)
        return joined

    def frame(self, name: str | None = None) -> Any:
        """The summary, or a table, as a pandas data frame. Raises MissingDependency."""
        try:
            pandas = import_module("pandas")
        except ImportError as error:
            raise MissingDependency("data frames need pandas: pip install pandas") from error
        return pandas.DataFrame(self.columns if name is None else self.table(name))

    def save(self, out_dir: Path | str, form: str = "csv") -> Files:
        """Write what `commonlore simulate run` writes, but for the parts that an interrupted sweep goes on
        from."""
        seeds = tuple(run.seed for run in self.runs)
        files = write_files(Sweep(self.experiment, seeds, Path(out_dir), form), self.runs, self.failed)
        if files.results:
            write_pictures(self.experiment, files)
        return files

    def picture(self) -> bytes:
        """The figure, as PNG. Raises MissingDependency without matplotlib."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "plot.png"
            draw(self.experiment, self.runs, path)
            return path.read_bytes()

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        if not self.runs:
            return f"<p>all {len(self.failed)} runs failed</p>"
        arms = by_arm(self.experiment, self.runs)
        return self._image() + figures_table(arms, self.experiment.kind.columns)

    def _image(self) -> str:
        try:
            image = base64.b64encode(self.picture()).decode()
        except MissingDependency as error:
            return f"<p>{escape(str(error))}</p>"
        return f'<img style="max-width:100%" src="data:image/png;base64,{image}">'


def simulate(
    scenario: str | Path,
    seeds: Iterable[int] = (0,),
    *,
    jobs: int | None = None,
    pool: Pool | None = None,
    report: Report | None = None,
    out: Path | str | None = None,
    **parameters: Any,
) -> Results:
    """Run a scenario (a name or a file). `parameters` are dotted keys: a value sets one, several (a list, a
    range, an array) sweep it.

    With `out` every run is kept in that folder as it ends, and the same call goes on after an interruption.
    Runs that fail are in `failed`, with a warning. Raises ConfigError.
    """
    if isinstance(seeds, int):
        raise ConfigError(f"seeds={seeds} is one number; write seeds=[{seeds}] or seeds=range({seeds})")
    overrides = {key: _values(value) for key, value in parameters.items()}
    experiment = load_experiment(scenario_path(str(scenario)), overrides)
    chosen, workers = tuple(seeds), pool or Pool(jobs)
    if out is None:
        ran = run_all(experiment, chosen, workers, report)
        results = Results(experiment, ran.results, ran.failed)
    else:
        results = _kept(Sweep(experiment, chosen, Path(out)), workers, report)
    if results.failed:
        first = results.failed[0]
        told = f"{len(results.failed)} runs failed, the first: {first.arm}, seed {first.seed}: {first.reason}"
        warnings.warn(told, RuntimeWarning, stacklevel=2)
    return results


def _values(value: Any) -> tuple[Any, ...]:
    """What a parameter is set to or swept over; numpy's numbers as Python's."""
    value = _plain(value)
    several = isinstance(value, Iterable) and not isinstance(value, str)
    return tuple(map(_plain, value)) if several else (value,)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _kept(sweep: Sweep, pool: Pool, report: Report | None) -> Results:
    files = run_sweep(sweep, pool, report)
    if files.results:
        write_pictures(sweep.experiment, files)
    with opened(sweep.experiment, sweep.folder) as kept:
        return Results(sweep.experiment, tuple(read_kept(sweep, kept)), files.failed)
