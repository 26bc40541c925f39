"""What runs give: rows of a summary and tables, and how they become bytes, the same for the same seed.

Rules of this file: whole numbers wherever one can count, ratios rounded to six places; nothing in a file
depends on the clock, the machine or the order in which runs ended.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...protocol.errors import MissingDependency
from ..experiment.kinds import Columns, Outcome, Scalar
from ..experiment.scenario import Experiment

FORMATS = ("csv", "parquet")
Choice = tuple[tuple[str, Any], ...]
"""What was chosen in a sweep, by dotted key."""


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One arm with one seed: what was chosen in the sweep, and what came of it."""

    arm: str
    seed: int
    choice: Choice
    outcome: Outcome

    @property
    def row(self) -> dict[str, Any]:
        """A row of the summary."""
        return {"arm": self.arm, "seed": self.seed, **dict(self.choice), **self.outcome.summary}

    def figure(self, name: str) -> float:
        """One figure of the summary, 0 where it has none of that name."""
        return float(self.outcome.summary.get(name, 0))


@dataclass(frozen=True, slots=True)
class Failure:
    """One arm with one seed that gave no result, and the reason in a line."""

    arm: str
    seed: int
    choice: Choice
    reason: str

    @property
    def row(self) -> dict[str, Any]:
        """A row of the table of failures."""
        return {"arm": self.arm, "seed": self.seed, **dict(self.choice), "reason": self.reason}


@dataclass(frozen=True, slots=True)
class RunResult:
    """The arms that ran with one seed, in the order of the sweep."""

    seed: int
    arms: tuple[ArmResult, ...]


def by_arm(experiment: Experiment, results: Iterable[RunResult]) -> dict[str, list[ArmResult]]:
    """The results of each arm that has some, a seed each, in the order of the sweep."""
    arms: dict[str, list[ArmResult]] = {arm.label: [] for arm in experiment.arms}
    for result in results:
        for arm in result.arms:
            arms[arm.arm].append(arm)
    return {label: found for label, found in arms.items() if found}


def to_columns(rows: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Rows below each other; what a row lacks is empty."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name, "") for row in rows] for name in names}


def summary_columns(results: Iterable[ArmResult]) -> dict[str, list[Any]]:
    """A row an arm and seed; what an arm has no figure for is empty."""
    return to_columns([result.row for result in results])


def table_columns(result: RunResult) -> dict[str, dict[str, list[Any]]]:
    """The tables of all arms of a seed, by name, one below the other."""
    tables: dict[str, dict[str, list[Any]]] = {}
    for arm in result.arms:
        for name, columns in arm.outcome.tables.items():
            table = tables.setdefault(name, {"arm": [], **{column: [] for column in columns}})
            height = len(next(iter(columns.values()), []))
            table["arm"].extend([arm.arm] * height)
            for column, values in columns.items():
                table[column].extend(values)
    return tables


# ---- bytes


def to_bytes(columns: Columns, form: str) -> bytes:
    """A table in a format. Raises MissingDependency where it needs a package that is missing."""
    return _parquet(columns) if form == "parquet" else _csv(columns).encode()


def _csv(columns: Columns) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def _parquet(columns: Columns) -> bytes:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingDependency("Parquet needs pyarrow: pip install 'commonlore[simulate]'") from error
    sink = io.BytesIO()
    pq.write_table(pa.table({name: _of_one_type(values) for name, values in columns.items()}), sink)
    return sink.getvalue()


def _of_one_type(values: list[Any]) -> list[Any]:
    """A column that mixes types (as a swept key may) is text."""
    kinds = {type(value) for value in values}
    if kinds <= {int, float} or len(kinds) == 1:
        return values
    return [str(value) for value in values]


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. Raises OSError with its name, of a full disk too."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def to_scalar(text: str) -> Scalar:
    """A cell of a CSV file: a number where it is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
