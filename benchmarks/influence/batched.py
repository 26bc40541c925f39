"""Our method with many examples to a pass: the same factors, projection and integers, for tables that need
scores of many adapters and not their price. `faithful` holds it against the attributor's own code.

Labels are drawn by torch's generator here, and by SHAKE-256 there: two draws of one distribution.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
    (index,) = batched_indexes(subject, setting, [seed_for(subject.learner.world, "sketch")], observed)
    return index


def batched_indexes(
    subject: Subject, setting: Setting, draws: Iterable[bytes], observed: Observed | None = None
) -> Iterator[Index]:
    """The same under several projections, by their seeds."""
    curvature = (observed or observe(subject, setting.epoch)).fit(setting.plan)
    sides, packed = subject.sides(setting.epoch), len(pack_curvature(curvature))
    with torch.no_grad():
        rows, asked = (curvature.whiten(each.by_matrix).numpy() for each in (sides.rows, sides.questions))
    for seed in draws:
        sketch = Sketch.draw(seed, curvature.size, setting.width)
        found = [_row(sketch.project(each), curvature.size, setting) for each in rows]
        questions = [quantise(sketch.project(each)) for each in asked]
        yield Index(np.stack(found), np.stack(questions), 0.0, 0.0, packed, setting.row_bytes)


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
