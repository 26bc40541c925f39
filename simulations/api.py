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
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..protocol.errors import MissingDependency
from .plot import draw
from .pool import Pool
from .results import RunResult, summary_columns, table_columns
from .run import Files, Report, run_all, write_files
from .scenario import Experiment, load_experiment, scenario_path


@dataclass(frozen=True, slots=True)
class Results:
    """What an experiment gave, in memory."""

    experiment: Experiment
    runs: tuple[RunResult, ...]

    @property
    def columns(self) -> dict[str, list[Any]]:
        """The summary: a row an arm and seed."""
        return summary_columns(arm for run in self.runs for arm in run.arms)

    def table(self, name: str) -> dict[str, list[Any]]:
        """A table of all arms and seeds, such as `asks`, with its columns; the first two say arm and seed."""
        joined: dict[str, list[Any]] = {}
        for run in self.runs:
            columns = table_columns(run)[name]
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
        """Write what `commonlore simulate run` writes."""
        return write_files(self.experiment, self.runs, Path(out_dir), form)

    def picture(self) -> bytes:
        """The figure, as PNG."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "plot.png"
            draw(self.experiment, self.runs, path)
            return path.read_bytes()

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        shown = ("arm", "seed", *self.experiment.kind.columns)
        columns = {name: values for name, values in self.columns.items() if name in shown}
        head = "".join(f"<th>{name}</th>" for name in columns)
        rows = "".join(
            f"<tr>{''.join(f'<td>{value}</td>' for value in row)}</tr>"
            for row in zip(*columns.values(), strict=True)
        )
        image = base64.b64encode(self.picture()).decode()
        return f'<img src="data:image/png;base64,{image}"><table><tr>{head}</tr>{rows}</table>'


def simulate(
    scenario: str | Path,
    seeds: Iterable[int] = (0,),
    jobs: int = 1,
    pool: Pool | None = None,
    report: Report | None = None,
    **parameters: Any,
) -> Results:
    """Run a scenario (a name or a file). `parameters` are dotted keys: a value sets one, a list sweeps it.

    Raises ConfigError.
    """
    overrides = {
        key: tuple(value) if isinstance(value, list | tuple) else (value,)
        for key, value in parameters.items()
    }
    experiment = load_experiment(scenario_path(str(scenario)), overrides)
    return Results(experiment, run_all(experiment, list(seeds), pool or Pool(jobs), report))
