"""What training commits for attribution, made again: the early checkpoint from the rows, then the curvature.

Rules of this file:
- On one machine both come out as the same bytes. Elsewhere rounding differs, and a few steps of training make
  more of it; another recipe or other rows give another adapter altogether.
- Each stands in a folder whose name is a digest of all that it depends on, the curvature's within that of its
  rows' training: what is there is not made again, and a stopped training goes on.
- Adapters are compared by what training changed from nothing, the up-projections; factors by what they make
  of gradients, which is all that they are for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ...protocol.content.manifests import Row
from ..factory.checkpoint import remove_checkpoint
from ..factory.curvature import fit_early
from ..factory.examples import Encoder
from ..factory.job import CURVATURE_FILE, EARLY_FILE, TrainJob, write_job, write_whole
from ..factory.train import train_early
from ..models.reference import BaseModel
from .attributor import Attributor, read_factors
from .curvature import is_up
from .factors import adapter_shapes
from .subject import Subject

Progress = Callable[[int, int], None]
"""Told what is done and all of it: steps of a training, or passes over a row."""


def early_again(job: TrainJob, folder: Path, progress: Progress) -> Path:
    """Train a job as far as its early checkpoint, in the folder; its file. Raises ConfigError,
    TrainingFailed."""
    early = folder / EARLY_FILE
    if early.is_file():
        progress(1, 1)
    else:
        write_job(folder, job)
        last = job.config.early_steps(len(job.rows))[-1]
        train_early(folder, lambda told: progress(told.step, last))
        remove_checkpoint(folder)
    return early


def curvature_again(base: BaseModel, job: TrainJob, early: Path, folder: Path, progress: Progress) -> Path:
    """Fit the curvature at an early checkpoint, within the folder; its file. Raises AttributionFailed,
    InvalidAdapter."""
    at = early.read_bytes()
    place = folder / f"curvature-{hashlib.sha256(at).hexdigest()[:24]}"
    fitted = place / CURVATURE_FILE
    if fitted.is_file():
        progress(1, 1)
    else:
        place.mkdir(parents=True, exist_ok=True)
        write_whole(place / EARLY_FILE, at)
        encoder = Encoder(base)
        rows = [encoder.pair(row) for row in job.rows]
        fit_early(place, base, job.config, rows, lambda told: progress(told.step, told.steps))
    return fitted


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
