"""What a measurement of faithfulness is made of: how much to train, which rows, and the folder it is kept in.

Rules of this file: no torch, for a node plans what its attribution process does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...protocol.content.manifests import IndexManifest, Row
from ..factory.job import Pair, TrainConfig, TrainJob, write_job
from .measured_rows import draw_rows

EPOCHS = 2


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure by: `subsets` trainings, each on half of `rows` of the index for `steps` steps of
    `batch`, over `queries` rows. 0 steps are as many as meet each row EPOCHS times.
    """

    subsets: int = 6
    rows: int = 24
    queries: int = 10
    steps: int = 0
    batch: int = 4


@dataclass(frozen=True, slots=True)
class Measurement:
    """`subsets` halves of the rows that stand at `places` of the index; `folder` holds the job with them."""

    folder: Path
    places: tuple[int, ...]
    queries: int
    subsets: int
    steps: int
    batch: int


def plan_measurement(
    base: Path,
    index: IndexManifest,
    rows: tuple[Sequence[Row], Sequence[Row]],
    recipe: TrainConfig,
    kept: tuple[Path, Effort],
) -> Measurement:
    """Write the job of a measurement into its folder. `rows` are (indexed, in the index's order; others, in
    an order of their own), `kept` (folder, effort).

    Raises ConfigError where there are too few rows.
    """
    indexed, others = rows
    folder, effort = kept
    texts = [*map(_text, indexed)], [*map(_text, others)]
    drawn = draw_rows(*texts, (effort.rows, effort.queries), index.rows_root)
    queries = [*others[: drawn.others], *(indexed[place] for place in drawn.aside)]
    steps = effort.steps or EPOCHS * -(-(len(drawn.rows) // 2) // effort.batch)
    config = replace(
        recipe,
        steps=steps,
        batch_size=effort.batch,
        warmup_steps=min(recipe.warmup_steps, steps // 3),
        curvature_rows=0,
    )
    write_job(
        folder, TrainJob(base, _pairs([indexed[place] for place in drawn.rows]), _pairs(queries), config)
    )
    return Measurement(folder, drawn.rows, len(queries), effort.subsets, steps, effort.batch)


def _text(row: Row) -> str:
    return f"{row.question}\n{row.answer}"


def _pairs(rows: Sequence[Row]) -> tuple[Pair, ...]:
    return tuple(Pair(row.question, row.answer) for row in rows)
