"""Fitting a real adapter's curvature at its early checkpoint: which rows, which labels, in what order.

Rules of this file:
- Labels are drawn from the model's own distribution (the true Fisher, not the empirical one): token n of row
  i takes the first 53 bits of 8 bytes of SHAKE-256("commonlore/labels/1" ‖ seed ‖ i) as a number in [0, 1)
  and the first label whose cumulated probability exceeds it. Both passes draw the same.
- One row at a time in fp32, as everything in attribution.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..factory.examples import Example
from .adapted import AdaptedModel
from .curvature import FITTED, Curvature, Plan
from .curvature_fit import CurvatureFit
from .factors import Factors
from .gradient import place

Progress = Callable[[int, int], None]
"""Told passes over a row done, and all of them."""


def fit_curvature(
    model: AdaptedModel,
    factors: Factors,
    rows: Sequence[Example],
    seed: bytes,
    progress: Progress = lambda _done, _total: None,
    plan: Plan = FITTED,
) -> Curvature:
    """The factors of an adapter from some of the rows that it was trained on. Raises AttributionFailed."""
    shapes = {name: (tensor.shape[0], tensor.shape[1]) for name, tensor in factors.tensors.items()}
    fit = CurvatureFit(shapes, plan)
    model.use(factors)
    model.watch(fit.observe_sides)
    try:
        for number, row in enumerate(rows):
            _drawn_gradients(model, row, seed, number)
            progress(number + 1, 2 * len(rows))
    finally:
        model.watch(None)
    fit.solve()
    for number, row in enumerate(rows):
        fit.observe_gradients(_drawn_gradients(model, row, seed, number))
        progress(len(rows) + number + 1, 2 * len(rows))
    return fit.finish()


def spread(rows: Sequence[Example], count: int) -> list[Example]:
    """At most `count` of the rows, evenly spread."""
    if count >= len(rows):
        return list(rows)
    return [rows[position * len(rows) // count] for position in range(count)]


def _drawn_gradients(model: AdaptedModel, row: Example, seed: bytes, number: int) -> dict[str, Tensor]:
    tokens, scored = place(model, row)
    with torch.enable_grad():
        loss = model.answer_nll(tokens, scored, lambda logits: draw_labels(logits, seed, number))
        loss.backward()  # type: ignore[no-untyped-call]
    return model.take_gradients()


def draw_labels(logits: Tensor, seed: bytes, number: int) -> Tensor:
    """Labels (tokens,) from the distribution of logits (tokens, vocabulary), for row `number`."""
    stream = hashlib.shake_256(b"commonlore/labels/1" + seed + number.to_bytes(8, "big"))
    words = np.frombuffer(stream.digest(8 * len(logits)), "<u8") >> np.uint64(11)
    wanted = torch.from_numpy(words.astype(np.float64) * 2.0**-53)
    cumulated = logits.double().softmax(-1).cumsum(-1)
    return torch.searchsorted(cumulated, wanted[:, None], right=True)[:, 0].clamp(max=logits.shape[1] - 1)
