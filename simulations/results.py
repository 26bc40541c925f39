"""What a run leaves behind: a summary a line an arm and seed, tables, and a manifest, the same for the same
seed.

Rules of this file: whole numbers wherever one can count, ratios rounded to six places; nothing in a file
depends on the clock, the machine or the order in which runs ended.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..protocol import credits as protocol_room
from ..protocol.errors import MissingDependency
from ..scheduler import core as scheduler_room
from .kinds import Columns, Outcome, Scalar
from .scenario import Experiment

FORMATS = ("csv", "parquet")


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One arm with one seed: what was chosen in the sweep, and what came of it."""

    arm: str
    seed: int
    choice: tuple[tuple[str, Any], ...]
    outcome: Outcome

    @property
    def row(self) -> dict[str, Any]:
        """A row of the summary."""
        return {"arm": self.arm, "seed": self.seed, **dict(self.choice), **self.outcome.summary}

    def figure(self, name: str) -> float:
        """One figure of the summary, 0 where it has none of that name."""
        return float(self.outcome.summary.get(name, 0))


@dataclass(frozen=True, slots=True)
class RunResult:
    """All arms with one seed, in the order of the sweep."""

    name: str
    digest: str
    seed: int
    arms: tuple[ArmResult, ...]


def summary_columns(results: Iterable[ArmResult]) -> dict[str, list[Any]]:
    """A row an arm and seed; what an arm has no figure for is empty."""
    rows = [result.row for result in results]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name, "") for row in rows] for name in names}


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


# ---- files


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


def manifest_json(experiment: Experiment, seeds: Sequence[int], files: dict[str, bytes]) -> str:
    """What the files were made of and by: scenario, seeds, versions, and the sha-256 of each file, read or
    written."""
    manifest = {
        "scenario": experiment.name,
        "about": experiment.about,
        "kind": experiment.kind.name,
        "scenario_sha256": experiment.digest,
        "arms": {arm.label: asdict(arm.written) for arm in experiment.arms},
        "inputs": dict(experiment.inputs),
        "swept": list(experiment.swept),
        "seeds": list(seeds),
        "code_sha256": code_digest(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
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


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def to_scalar(text: str) -> Scalar:
    """A cell of a CSV file: a number where it is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
