"""Measuring a real adapter's faithfulness: half of its rows at a time trained again, scores beside it.

Rules of this file: the queries are rows that the index does not hold; subsets, order of batches and null
indexes follow from the index's rows root, so that anybody measures the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...protocol.errors import ConfigError
from ...protocol.manifests import IndexManifest, Row
from ..factory.examples import Encoder
from ..factory.job import Pair, TrainConfig
from ..models.reference import BaseModel
from .attributor import Attributor
from .faithfulness import FEWEST_ROWS, LdsReport, draw_halves, measure_lds
from .index import score_rows
from .retraining import Retraining
from .subject import Subject

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Measurement:
    """How much to train: `subsets` halves, each of `config.steps` steps, kept in `work_dir`."""

    config: TrainConfig
    subsets: int
    work_dir: Path


def measure_adapter(
    base: BaseModel,
    subject: Subject,
    index: tuple[IndexManifest, bytes],
    rows: tuple[Sequence[Row], Sequence[Row]],
    measurement: Measurement,
    progress: Progress,
) -> LdsReport:
    """The score of an adapter's index. `index` is (manifest, rows blob), `rows` (indexed, queries): the
    indexed in the index's order.

    Raises ConfigError with too few rows, and what training, scoring and reading the index raise.
    """
    manifest, blob = index
    indexed, queries = rows
    if len(indexed) < FEWEST_ROWS or not queries:
        raise ConfigError(f"{len(indexed)} indexed rows and {len(queries)} others are too few to measure by")
    attributor = Attributor(base)
    attributor.load(subject)
    vectors = np.stack(attributor.row_queries(subject.adapter, queries))
    scores = score_rows(manifest, blob, vectors).astype(np.float64)
    members = draw_halves(len(indexed), measurement.subsets, manifest.rows_root)
    encoder = Encoder(base)
    config = replace(measurement.config, curvature_rows=0)
    retraining = Retraining(base, config, [_pair(row) for row in indexed], measurement.work_dir)
    values = retraining.values(
        [np.flatnonzero(half).tolist() for half in members],
        [encoder.pair(_pair(row)) for row in queries],
        progress,
    )
    return measure_lds(scores, members, values, manifest.rows_root)


def _pair(row: Row) -> Pair:
    return Pair(row.question, row.answer)
