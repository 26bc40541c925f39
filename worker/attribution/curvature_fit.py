"""Fitting an adapter's curvature to rows: two passes over gradients of labels that the model itself draws.

Rules of this file:
- First pass, `observe_sides`: what every token brings to a tensor's two sides. The rank side's covariance is
  summed whole; of the wide side only its product with a fixed matrix of signs is, from which the leading
  eigenvectors follow (Nystrom's method: Tropp et al., "Fixed-rank approximation of a positive-semidefinite
  matrix from streaming data", 2017). Nothing quadratic in the width is ever held, unless all of it is wanted.
- Second pass, `observe_gradients`: second moments of whole examples' gradients in the basis found.
- No library's generator: the signs are SHAKE-256's. Sums are float64 in the order given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ...protocol.errors import AttributionFailed
from .curvature import (
    Curvature,
    Plan,
    Shapes,
    TensorCurvature,
    as_ratio,
    is_up,
    oriented,
    round_basis,
    spread_basis,
    thin_and_wide,
)

_OVERSAMPLING = 8
_Bases = tuple[Tensor, Tensor]


class CurvatureFit:
    """Call `observe_sides` for all rows, `solve`, `observe_gradients` for all rows, `finish`."""

    def __init__(self, shapes: Shapes, plan: Plan) -> None:
        self.plan = plan
        self._sides = {
            name: _Sides.of(*thin_and_wide(name, shapes[name]), plan, number)
            for number, name in enumerate(sorted(shapes))
        }
        self._moments: dict[str, _Moments] = {}

    def observe_sides(self, name: str, inputs: Tensor, outputs: Tensor) -> None:
        """Tokens of y = Wx: inputs x (tokens, in) and the loss's gradients at y (tokens, out)."""
        rank, wide = (inputs, outputs) if is_up(name) else (outputs, inputs)
        self._sides[name].add(rank.double(), wide.double())

    def solve(self) -> None:
        """Turn what was observed into bases. Raises AttributionFailed where it is not finite."""
        self._moments = {name: _Moments(sides.bases()) for name, sides in self._sides.items()}

    def observe_gradients(self, gradients: Mapping[str, Tensor]) -> None:
        """Examples' own gradients, {tensor: (examples, out, in)}."""
        for name, moments in self._moments.items():
            moments.add(oriented(name, gradients[name]))

    def finish(self) -> Curvature:
        """The factors, ready to be packed. Raises AttributionFailed where a gradient was not finite."""
        tensors = {name: moments.finish(self.plan) for name, moments in self._moments.items()}
        return Curvature(tensors, self.plan.damping)


@dataclass(slots=True, eq=False)
class _Sides:
    rank: Tensor
    signs: Tensor | None
    """(wide, columns) of ±1; None: the wide covariance is summed whole."""
    wide: Tensor
    columns: int

    @classmethod
    def of(cls, rank: int, wide: int, plan: Plan, number: int) -> _Sides:
        columns = plan.columns(rank, wide)
        width = min(wide, 2 * columns + _OVERSAMPLING) if columns else 0
        signs = _signs(number, wide, width) if width < wide else None
        return cls(torch.zeros(rank, rank).double(), signs, torch.zeros(wide, width).double(), columns)

    def add(self, rank: Tensor, wide: Tensor) -> None:
        self.rank += rank.T @ rank
        if self.columns:
            self.wide += wide.T @ (wide if self.signs is None else wide @ self.signs)

    def bases(self) -> _Bases:
        if not (torch.isfinite(self.rank).all() and torch.isfinite(self.wide).all()):
            raise AttributionFailed("a gradient is not finite; the early checkpoint or the base is damaged")
        rank = torch.linalg.eigh(self.rank)[1]
        if not self.columns:
            return rank, self.wide
        if self.signs is None:
            return rank, torch.linalg.eigh(self.wide)[1].flip(1)[:, : self.columns]
        return rank, _leading(self.wide, self.signs, self.columns)


@dataclass(slots=True, eq=False)
class _Moments:
    """Sums of squares in a basis, rounded as it will be stored."""

    bases: _Bases
    stored: tuple[Tensor, Tensor] = field(init=False)
    top: Tensor = field(init=False)
    rest: Tensor = field(init=False)
    examples: int = 0

    def __post_init__(self) -> None:
        self.stored = round_basis(self.bases[1])
        rank, wide = self.bases[0].half().float().contiguous(), spread_basis(*self.stored)
        self.bases = rank, wide
        self.top = torch.zeros(len(rank), wide.shape[1]).double()
        self.rest = torch.zeros(len(rank), len(wide)).double()

    @property
    def is_whole(self) -> bool:
        """Whether the wide basis leaves nothing over."""
        wide = self.bases[1]
        return wide.shape[0] == wide.shape[1]

    def add(self, gradients: Tensor) -> None:
        rank, wide = self.bases
        rotated = rank.T @ gradients
        inside = rotated @ wide
        self.top += inside.double().square().sum(0)
        if not self.is_whole:
            self.rest += (rotated - inside @ wide.T).double().square().sum(0)
        self.examples += len(gradients)

    def finish(self, plan: Plan) -> TensorCurvature:
        rank, wide = self.bases
        top, rest = self.top / max(1, self.examples), self.rest / max(1, self.examples)
        mean = float((top.sum() + rest.sum()) / (len(rank) * len(wide)))
        if not np.isfinite(mean):
            raise AttributionFailed("a gradient is not finite; the early checkpoint or the base is damaged")
        if self.is_whole:
            rested = torch.zeros(0).half()
        else:
            rested = _margins(rest, mean) if plan.separable else as_ratio(rest, mean)
        gain = float(np.float32(mean**-0.5)) if mean > 0 else 0.0
        return TensorCurvature(rank.half(), *self.stored, as_ratio(top, mean), rested, gain)


def _margins(rest: Tensor, mean: float) -> Tensor:
    """(rank,) and (wide,), joined, whose outer product has the row and column means of `rest` over `mean`."""
    whole = float(rest.mean())
    if whole <= 0:
        return torch.zeros(sum(rest.shape)).half()
    return torch.cat([as_ratio(rest.mean(1), mean), as_ratio(rest.mean(0), whole)])


def _leading(product: Tensor, signs: Tensor, columns: int) -> Tensor:
    """The leading eigenvectors, (wide, columns), of C where `product` = C · signs."""
    shift = float(product.norm()) * 1e-12
    if shift == 0.0:
        return torch.zeros(len(product), columns).double()
    shifted = product + shift * signs
    core = signs.T @ shifted
    values, vectors = torch.linalg.eigh((core + core.T) / 2)
    kept = values > values[-1] * 1e-12
    half = shifted @ (vectors[:, kept] * values[kept].rsqrt())
    leading = torch.linalg.svd(half, full_matrices=False)[0][:, :columns]
    return torch.nn.functional.pad(leading, (0, columns - leading.shape[1]))


def _signs(number: int, rows: int, columns: int) -> Tensor:
    stream = hashlib.shake_256(f"commonlore/curvature/1/{number}".encode()).digest((rows * columns + 7) // 8)
    bits = np.unpackbits(np.frombuffer(stream, np.uint8))[: rows * columns]
    return torch.from_numpy(1.0 - 2.0 * bits.reshape(rows, columns))
