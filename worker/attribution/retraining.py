"""Training again on part of the rows, and what that does to an answer: the truth that scores are held to.

Rules of this file:
- A subset is trained like the adapter (same start, same schedule), in a folder of its own under `work_dir`
  whose name is a digest of all that its outcome depends on: whoever is stopped goes on where he was, and
  nothing is trained twice.
- The value of an adapter for an answer is minus its mean nats a token, in fp32, as in attribution.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ..factory.examples import Example
from ..factory.job import ADAPTER_FILE, Pair, TrainConfig, TrainJob, job_digest, write_job
from ..factory.train import train_adapter
from ..models.architecture import LINEARS
from ..models.reference import BaseModel
from .adapted import AdaptedModel
from .attributor import read_factors
from .factors import adapter_shapes
from .gradient import place

Floats64 = npt.NDArray[np.float64]
Progress = Callable[[int, int, int], None]
"""Told a subset's number and how many of how many steps it was trained."""


class Retraining:
    """An adapter's rows, to be trained on in part."""

    def __init__(self, base: BaseModel, config: TrainConfig, rows: Sequence[Pair], work_dir: Path) -> None:
        self._base = base
        self._config = replace(config, curvature_rows=0)
        self._rows = tuple(rows)
        self._work_dir = work_dir
        self._model: AdaptedModel | None = None

    def values(
        self,
        subsets: Sequence[Sequence[int]],
        answers: Sequence[Example],
        progress: Progress = lambda _subset, _step, _steps: None,
    ) -> Floats64:
        """(subsets, answers): what an adapter trained on each subset's rows is worth for each answer.

        Raises ConfigError on an empty subset, TrainingFailed, AttributionFailed.
        """
        found = np.zeros((len(subsets), len(answers)))
        for number, subset in enumerate(subsets):
            adapter = self._train(subset, partial(progress, number))
            found[number] = self._value(adapter, answers)
        return found

    def _train(self, subset: Sequence[int], progress: Callable[[int, int], None]) -> Path:
        rows = tuple(self._rows[row] for row in sorted(subset))
        job = TrainJob(self._base.directory, rows, (), self._config)
        folder = self._work_dir / hashlib.sha256(job_digest(job, self._base.id).encode()).hexdigest()[:24]
        if not (folder / ADAPTER_FILE).is_file():
            write_job(folder, job)
            train_adapter(folder, lambda told: progress(told.step, told.steps))
        progress(self._config.steps, self._config.steps)
        return folder / ADAPTER_FILE

    def _value(self, adapter: Path, answers: Sequence[Example]) -> list[float]:
        model = self._model = self._model or AdaptedModel(self._base)
        shapes = adapter_shapes(self._base.architecture, self._config.rank, LINEARS)
        model.use(read_factors(adapter, shapes, self._config.alpha / self._config.rank))
        with torch.no_grad():
            return [-float(model.answer_nll(*place(model, answer))) for answer in answers]


def leave_out(owners: Sequence[bytes], left_out: Sequence[bytes]) -> list[list[int]]:
    """All rows, then for each of `left_out` all rows but its own; `owners` has one entry a row."""
    everything = list(range(len(owners)))
    return [everything, *([row for row in everything if owners[row] != one] for one in left_out)]
