"""An adapter that the factory has trained, and what methods see of it: the attributor's vectors, and
whole gradients.

Rules of this file:
- Training is a job of the factory's and vectors are the attributor's: nothing is done otherwise for the
  benchmark. A row is a question in the base's own chat template and its answer, and the answer is scored.
- Whole gradients come from the attributor's layers, too, because peft takes three times as long on a real
  base. They are of one state at a time: a hundred rows are a gigabyte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from commonlore.protocol.content.manifests import Row
from commonlore.protocol.ids import cid_of
from commonlore.worker.attribution.attributor import Attributor, read_factors
from commonlore.worker.attribution.factors import adapter_shapes
from commonlore.worker.attribution.gradient import compute_vectors
from commonlore.worker.attribution.subject import Subject
from commonlore.worker.factory.examples import Encoder
from commonlore.worker.factory.job import (
    ADAPTER_FILE,
    CURVATURE_FILE,
    EARLY_FILE,
    Pair,
    TrainConfig,
    TrainJob,
    TrainProgress,
    TrainResult,
    write_job,
)
from commonlore.worker.factory.train import run_job
from commonlore.worker.models.architecture import LINEARS
from commonlore.worker.models.reference import BaseModel

from ..child import note
from .gradients import Gradients

Item = TypeVar("Item")
Vectors = npt.NDArray[np.int8]
_SALT = bytes(32)
_AT_ONCE = 20


class Taught:
    """The adapter of a folder, trained where it is not. One at a time: `attributor` holds a base."""

    def __init__(self, folder: Path, base: BaseModel, pairs: tuple[Sequence[Pair], Sequence[Pair]]) -> None:
        """`pairs` are rows and held-out questions."""
        self.folder, self.base = folder, base
        self.rows, self.questions = pairs
        self.early_step = 0
        self._attributor: Attributor | None = None

    def learn(self, config: TrainConfig) -> TrainResult:
        """Train, from wherever an earlier run stopped."""
        self.config = config
        write_job(self.folder, TrainJob(self.base.directory, tuple(self.rows), tuple(self.questions), config))
        result = run_job(self.folder, self._tell)
        self.early_step = result.early_step
        return result

    def vectors(self, seed: bytes) -> tuple[Vectors, Vectors]:
        """Rows and questions as receipts have them, (…, width) each, under the projection of this seed;
        kept."""
        kept = self.folder / "vectors.npz"
        if not kept.exists():
            attributor = self._loaded()
            adapter = cid_of((self.folder / ADAPTER_FILE).read_bytes())
            early, curvature = self.folder / EARLY_FILE, self.folder / CURVATURE_FILE
            shape = self.config.rank, self.config.alpha, LINEARS
            attributor.load(Subject(adapter, early, *shape, seed, curvature=curvature))
            compute = attributor.row_vectors(adapter)
            rows = [each for some in self._some(_as_rows(self.rows)) for each in compute(some)]
            questions = attributor.row_queries(adapter, _as_rows(self.questions))
            partly = kept.with_suffix(".partial.npz")
            np.savez(partly, rows=np.stack(rows), questions=np.stack(questions))
            partly.rename(kept)
        found = np.load(kept)
        return found["rows"], found["questions"]

    def gradients(self, file: str) -> tuple[Gradients, Gradients]:
        """Of rows' and of questions' answers at the state of this file."""
        attributor, encoder = self._loaded(), Encoder(self.base)
        shapes = adapter_shapes(self.base.architecture, self.config.rank, LINEARS)
        factors = read_factors(self.folder / file, shapes, self.config.alpha / self.config.rank)

        def of(pairs: Sequence[Pair]) -> Gradients:
            found = {name: torch.empty(len(pairs), *shape) for name, shape in shapes.items()}
            done = 0
            for some in self._some(pairs):
                examples = [encoder.pair(pair) for pair in some]
                for each in compute_vectors(attributor.model, factors, _copied, examples):
                    for name, gradient in each.items():
                        found[name][done] = gradient
                    done += 1
            return Gradients(found)

        return of(self.rows), of(self.questions)

    def _loaded(self) -> Attributor:
        if self._attributor is None:
            self._attributor = Attributor(self.base)
        return self._attributor

    def _some(self, rows: Sequence[Item]) -> Iterator[Sequence[Item]]:
        for start in range(0, len(rows), _AT_ONCE):
            self._note(f"{start} of {len(rows)} gradients")
            yield rows[start : start + _AT_ONCE]

    def _tell(self, progress: TrainProgress) -> None:
        if progress.step % 10 == 0:
            self._note(f"{progress.stage} {progress.step} of {progress.steps}, loss {progress.loss}")

    def _note(self, what: str) -> None:
        note(f"{self.folder.parent.name} {self.folder.name}: {what}")


def _as_rows(pairs: Sequence[Pair]) -> list[Row]:
    return [Row(pair.question, pair.answer, _SALT) for pair in pairs]


def _copied(gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: each[0].clone() for name, each in gradients.items()}
