"""The gradient of an answer: of the mean nats a token over the adapter's parameters, at its early checkpoint.

Rules of this file:
- Reference weights in fp32, eager attention, one example at a time, LoRA parameters only, the answer's tokens
  only; then the adapter's curvature, where it has published one, and `sketch`. A training row and an answer
  that a model gave go through the very same function up to the last step.
- Two machines round differently: whoever rechecks a row allows for that (`sketch.agrees`), never for more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...protocol.errors import AttributionFailed
from ..engine.native.library import Unavailable
from ..factory.examples import Example
from .adapted import AdaptedModel
from .compiled_projection import CompiledProjection
from .curvature import Curvature
from .factors import Factors
from .sketch import Int8s, Sketch, quantise, weigh_signs

Gradients = Mapping[str, Tensor]
"""By tensor: (1, out, in)."""
Formed = TypeVar("Formed")
ROW_TERMS = 2
"""Terms in which rows are computed: what one of them leaves to two implementations would be enough for an
author to lean rows towards a question (docs/attribution.md)."""


class Transform:
    """From gradients {tensor: (1, out, in)} to integers: whitened by `curvature` if there is one, projected,
    rounded. Each method raises AttributionFailed where a gradient is not finite.
    """

    def __init__(self, sketch: Sketch, curvature: Curvature | None = None, *, compiled: bool = True) -> None:
        """`compiled` False: by torch even where the compiled library is to be had."""
        self.sketch, self.curvature = sketch, curvature
        self._compiled: CompiledProjection | None = None
        if curvature is not None and compiled:
            with suppress(Unavailable):
                self._compiled = CompiledProjection(curvature, sketch)

    def answer(self, gradients: Gradients) -> Int8s:
        """An answer's vector, (width,)."""
        return quantise(self.project(gradients))

    def row(self, gradients: Gradients) -> Int8s:
        """A row's weighted signs, (width,)."""
        return weigh_signs(self.project(gradients), len(self.sketch.draws))

    def project(self, gradients: Gradients) -> npt.NDArray[np.float64]:
        """The buckets, (width,)."""
        buckets = self._compiled(gradients) if self._compiled is not None else self._by_torch(gradients)
        if not np.isfinite(buckets).all():
            raise AttributionFailed("a gradient is not finite; the early checkpoint or the base is damaged")
        return buckets

    def _by_torch(self, gradients: Gradients) -> npt.NDArray[np.float64]:
        if self.curvature is None:
            flat = torch.cat([gradients[name].flatten() for name in sorted(gradients)])
        else:
            flat = self.curvature.whiten(gradients)[0]
        return self.sketch.project(np.asarray(flat.numpy(), np.float32))


def compute_vectors(
    model: AdaptedModel,
    factors: Factors,
    form: Callable[[Gradients], Formed],
    examples: Sequence[Example],
    terms: int = 1,
) -> list[Formed]:
    """What a transform's `form` makes of examples' gradients, computed in so many terms (`frozen`). Raises
    AttributionFailed."""
    model.use(factors)
    model.round_to(terms)
    try:
        return [form(_gradients(model, example)) for example in examples]
    finally:
        model.round_to(1)


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


def _gradients(model: AdaptedModel, example: Example) -> Gradients:
    tokens, scored = place(model, example)
    with torch.enable_grad():
        model.answer_nll(tokens, scored).backward()  # type: ignore[no-untyped-call]
    return model.take_gradients()


def place(model: AdaptedModel, example: Example) -> tuple[Tensor, Tensor]:
    """An example's ids (1, length) and the marks of its scored tokens. Raises AttributionFailed."""
    length, longest = len(example.tokens), model.architecture.max_positions
    if max(example.tokens, default=0) >= model.architecture.vocabulary:  # a stranger's receipt may have any
        raise AttributionFailed(f"the token {max(example.tokens)} is none of its base's")
    if not 0 < example.answer_start < length:
        raise AttributionFailed("an answer without tokens has no gradient")
    if length > longest:
        raise AttributionFailed(f"an example of {length} tokens; its base sees {longest} at most")
    scored = torch.zeros(1, length, dtype=torch.bool)
    scored[0, example.answer_start :] = True
    return torch.tensor([example.tokens]), scored
