"""What training commits for attribution, made again: the early checkpoint from the rows, then the curvature.

Rules of this file:
- On one machine both come out as the same bytes. Elsewhere rounding differs, and a few steps of training make
  more of it; another recipe or other rows give another adapter altogether.
- Adapters are compared by what training changed from nothing, the up-projections; factors by what they make
  of gradients, which is all that they are for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ...protocol.content.manifests import Row
from ..factory.curvature import fit_early
from ..factory.examples import Encoder
from ..factory.job import CURVATURE_FILE, EARLY_FILE, Pair, TrainConfig, TrainJob, write_job, write_whole
from ..factory.train import train_early
from ..models.reference import BaseModel
from .attributor import Attributor, read_factors
from .curvature import is_up
from .factors import adapter_shapes
from .subject import Subject


def early_again(base: BaseModel, config: TrainConfig, rows: Sequence[Pair], folder: Path) -> Path:
    """Train on the rows as far as the early checkpoint, in a folder where a stopped training goes on; its
    file. Raises ConfigError, TrainingFailed."""
    write_job(folder, TrainJob(base.directory, tuple(rows), (), config))
    return train_early(folder)


def curvature_again(
    base: BaseModel, config: TrainConfig, rows: Sequence[Pair], early: Path, folder: Path
) -> Path:
    """Fit the curvature at an early checkpoint; its file. Raises AttributionFailed, InvalidAdapter."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / EARLY_FILE, early.read_bytes())
    encoder = Encoder(base)
    fit_early(folder, base, config, [encoder.pair(row) for row in rows], lambda _progress: None)
    return folder / CURVATURE_FILE


def likeness_of_adapters(base: BaseModel, subject: Subject, other: Path) -> float:
    """Cosine of what two trainings changed. Raises InvalidAdapter."""
    shapes = adapter_shapes(base.architecture, subject.rank, subject.targets)
    found = [read_factors(path, shapes, 1.0).tensors for path in (subject.early, other)]
    a, b = (torch.cat([each[name].flatten() for name in sorted(each) if is_up(name)]) for each in found)
    return _cosine(a.double().numpy(), b.double().numpy())


def likeness_of_factors(attributor: Attributor, subject: Subject, other: Path, rows: Sequence[Row]) -> float:
    """The least cosine between what two curvatures make of some rows' gradients. Raises AttributionFailed,
    InvalidAdapter."""
    made: list[list[np.ndarray[tuple[int], np.dtype[np.float64]]]] = []
    for curvature in (subject.curvature, other):
        attributor.load(replace(subject, curvature=curvature))
        project = attributor.project_row(subject.adapter)
        made.append([project(row)[0] for row in rows])
    return min(_cosine(a, b) for a, b in zip(*made, strict=True))


def _cosine(
    a: np.ndarray[tuple[int], np.dtype[np.float64]], b: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> float:
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths else float(np.array_equal(a, b))
