"""The last stage of a run: the curvature at its early checkpoint, which attribution whitens gradients with.

Rules of this file: a file that is there belongs to the early checkpoint beside it, or it is computed again;
labels are drawn from that checkpoint's digest, so that anybody who holds rows and checkpoint fits the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from ..attribution.adapted import AdaptedModel
from ..attribution.attributor import read_factors
from ..attribution.curvature import pack_curvature
from ..attribution.curvature_run import fit_curvature, spread
from ..attribution.factors import adapter_shapes
from ..models.architecture import LINEARS
from ..models.reference import BaseModel
from .examples import Example
from .job import CURVATURE_FILE, EARLY_FILE, TrainConfig, TrainProgress, write_whole


def fit_early(
    job_dir: Path,
    base: BaseModel,
    config: TrainConfig,
    rows: Sequence[Example],
    report: Callable[[TrainProgress], None],
) -> None:
    """Write the folder's curvature file, unless the job wants none. Raises AttributionFailed."""
    if not config.curvature_rows:
        return
    early = job_dir / EARLY_FILE
    shapes = adapter_shapes(base.architecture, config.rank, LINEARS)
    factors = read_factors(early, shapes, config.alpha / config.rank)
    curvature = fit_curvature(
        AdaptedModel(base),
        factors,
        spread(rows, config.curvature_rows),
        hashlib.sha256(early.read_bytes()).digest(),
        lambda done, total: report(TrainProgress("curvature", done, total)),
    )
    write_whole(job_dir / CURVATURE_FILE, pack_curvature(curvature))
