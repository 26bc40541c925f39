"""The gradient of an answer: of the mean nats a token over the adapter's parameters, at its early checkpoint.

Rules of this file:
- Reference weights in fp32, eager attention, one example at a time, LoRA parameters only, the answer's tokens
  only; then the adapter's curvature, where it has published one, and `sketch`. A training row and an answer
  that a model gave go through the very same function.
- Two machines round differently: whoever rechecks a vector allows for that (`sketch.agrees`), never for more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...protocol.errors import AttributionFailed
from ..factory.examples import Example
from .adapted import AdaptedModel
from .curvature import Curvature
from .factors import Factors
from .sketch import Int8s, Sketch, quantise


@dataclass(frozen=True, slots=True, eq=False)
class Transform:
    """From a gradient to its int8 vector: whitened by `curvature` if there is one, projected, quantised."""

    sketch: Sketch
    curvature: Curvature | None = None

    def __call__(self, gradients: Mapping[str, Tensor]) -> Int8s:
        """{tensor: (1, out, in)} to (width,). Raises AttributionFailed where it is not finite."""
        if self.curvature is None:
            flat = torch.cat([gradients[name].flatten() for name in sorted(gradients)])
        else:
            flat = self.curvature.whiten(gradients)[0]
        array = np.asarray(flat.numpy(), np.float32)
        if not np.isfinite(array).all():
            raise AttributionFailed("a gradient is not finite; the early checkpoint or the base is damaged")
        return quantise(self.sketch.project(array))


def compute_vectors(
    model: AdaptedModel, factors: Factors, transform: Transform, examples: Sequence[Example]
) -> list[Int8s]:
    """The int8 vectors, (width,) each, of examples. Raises AttributionFailed."""
    model.use(factors)
    return [transform(_gradients(model, example)) for example in examples]


def compute_losses(model: AdaptedModel, factors: Factors, examples: Sequence[Example]) -> list[float]:
    """Nats over all scored tokens of each example. Raises AttributionFailed."""
    model.use(factors)
    losses = []
    for example in examples:
        tokens, scored = place(model, example)
        with torch.no_grad():
            losses.append(float(model.answer_nll(tokens, scored)) * int(scored.sum()))
    if not np.isfinite(losses).all():
        raise AttributionFailed("a loss is not finite; the early checkpoint or the base is damaged")
    return losses


def _gradients(model: AdaptedModel, example: Example) -> dict[str, Tensor]:
    tokens, scored = place(model, example)
    with torch.enable_grad():
        model.answer_nll(tokens, scored).backward()  # type: ignore[no-untyped-call]
    return model.take_gradients()


def place(model: AdaptedModel, example: Example) -> tuple[Tensor, Tensor]:
    """An example's ids (1, length) and the marks of its scored tokens. Raises AttributionFailed."""
    length, longest = len(example.tokens), model.architecture.max_positions
    if not 0 < example.answer_start < length:
        raise AttributionFailed("an answer without tokens has no gradient")
    if length > longest:
        raise AttributionFailed(f"an example of {length} tokens; its base sees {longest} at most")
    scored = torch.zeros(1, length, dtype=torch.bool)
    scored[0, example.answer_start :] = True
    return torch.tensor([example.tokens]), scored
