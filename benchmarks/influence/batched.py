"""Our method with many examples to a pass: the same factors, projection and integers, for tables that need
scores of many adapters and not their price. `faithful` holds it against the attributor's own code.

Labels are drawn by torch's generator here, and by SHAKE-256 there: two draws of one distribution.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from commonlore.worker.attribution.curvature import Curvature, Plan, pack_curvature
from commonlore.worker.attribution.curvature_fit import CurvatureFit
from commonlore.worker.attribution.sketch import Sketch, quantise, weigh_signs

from .gradients import Gradients, watched_fisher_gradients
from .measures import Truth, shares, total_variation
from .methods import Subject
from .ours import Index, Setting, Vectors, seed_for


@dataclass(slots=True, eq=False)
class Observed:
    """What a pass over all rows with drawn labels showed: each matrix's two sides, and the gradients."""

    sides: list[tuple[str, Tensor, Tensor]] = field(default_factory=list)
    gradients: Gradients | None = None

    def add(self, name: str, entered: Tensor, left: Tensor) -> None:
        """(examples, tokens, inputs), (examples, tokens, outputs)."""
        self.sides.append((name, entered.flatten(0, 1), left.flatten(0, 1)))

    def fit(self, plan: Plan) -> Curvature:
        """The curvature under a plan."""
        assert self.gradients is not None  # observe filled it
        by_matrix = self.gradients.by_matrix
        shapes = {name: (each.shape[1], each.shape[2]) for name, each in by_matrix.items()}
        fit = CurvatureFit(shapes, plan)
        for side in self.sides:
            fit.observe_sides(*side)
        fit.solve()
        fit.observe_gradients(by_matrix)
        return fit.finish()


def observe(subject: Subject, epoch: int) -> Observed:
    """One pass over the subject's rows."""
    subject.learner.use(subject.states[epoch])
    observed = Observed()
    seed = subject.learner.world.seed
    observed.gradients = watched_fisher_gradients(subject.learner.model, subject.rows, seed, observed)
    return observed


def noise_table(index: Index, owner: npt.NDArray[np.int64], truth: Truth) -> dict[str, float]:
    """The pay error if a score counted from so many standard deviations of the projection's noise on."""
    sums = np.stack([index.rows[owner == each].sum(0, dtype=np.int64) for each in range(owner.max() + 1)])
    asked = index.questions.astype(np.float64)
    lengths = np.linalg.norm(asked, axis=1)[:, None] * np.linalg.norm(sums.astype(np.float64), axis=1)
    noise = lengths / asked.shape[1] ** 0.5
    paid = {each: shares(asked @ sums.T - each * noise) for each in (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)}
    wanted = shares(truth.shapley)
    return {f"{each}": float(total_variation(table, wanted).mean()) for each, table in paid.items()}


def batched_index(subject: Subject, setting: Setting, observed: Observed | None = None) -> Index:
    """Rows and questions as vectors; `observed` at the setting's epoch saves a pass. No times."""
    curvature = (observed or observe(subject, setting.epoch)).fit(setting.plan)
    sides, world = subject.sides(setting.epoch), subject.learner.world
    sketch = Sketch.draw(seed_for(world, "sketch"), curvature.size, setting.width)

    def projected(gradients: Gradients) -> list[npt.NDArray[np.float64]]:
        return [sketch.project(each) for each in curvature.whiten(gradients.by_matrix).numpy()]

    with torch.no_grad():
        found = [_row(each, curvature.size, setting) for each in projected(sides.rows)]
        rows, questions = np.stack(found), np.stack([quantise(each) for each in projected(sides.questions)])
    return Index(rows, questions, 0.0, 0.0, len(pack_curvature(curvature)), setting.row_bytes)


def _row(projected: npt.NDArray[np.float64], coordinates: int, setting: Setting) -> Vectors:
    """Weighted signs as attributors keep them; without a weight or with more bits, of unit length."""
    if setting.weighted:
        return weigh_signs(projected, coordinates)
    return coarse(quantise(projected), setting.bits)


def coarse(row: Vectors, bits: int) -> Vectors:
    """A row with fewer bits a place: for one bit signs, for more so many equal steps to both sides of zero
    that three standard deviations are told apart."""
    if bits == 8:
        return row
    if bits == 1:
        return np.where(row < 0, -1, 1).astype(np.int8)
    levels = 2 ** (bits - 1)  # half-steps to each side: -2L+1, …, -1, 1, …, 2L-1
    step = {2: 21.0, 4: 7.0}[bits]
    place = np.clip(np.floor(row / step), -levels, levels - 1)
    return (2 * place + 1).astype(np.int8)
