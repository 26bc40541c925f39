"""The gradient of an answer: of the mean nats a token over the adapter's parameters, at its early checkpoint.

Rules of this file:
- Method `grad-sketch/1`: reference weights in fp32, eager attention, LoRA parameters only, the answer's
  tokens only, then `sketch`. A training row and an answer that a model gave go through the very same
  function.
- Rows may be computed several at a time; each one's vector is what it would be alone, to rounding. So whoever
  rechecks allows for rounding (`sketch.agrees`), never for more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ...protocol.errors import AttributionFailed
from ..factory.examples import Example
from .adapted import AdaptedModel, Factors
from .sketch import Int8s, Sketch, quantise


def compute_vectors(
    model: AdaptedModel, factors: Factors, sketch: Sketch, examples: Sequence[Example]
) -> list[Int8s]:
    """The int8 vectors, (width,) each, of examples that are computed together. Raises AttributionFailed."""
    tokens, scored = _collate(examples)
    model.use(factors)
    with torch.enable_grad():
        model.answer_nll(tokens, scored).sum().backward()  # type: ignore[no-untyped-call]
    gradients = model.take_gradients(factors.names)
    if not np.isfinite(gradients).all():
        raise AttributionFailed("a gradient is not finite; the early checkpoint or the base is damaged")
    return [quantise(sketch.project(gradient)) for gradient in gradients]


def _collate(examples: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids and the marks of scored tokens.

    Padding comes after everything that attends, so it adds nothing.
    """
    longest = max(len(example.tokens) for example in examples)
    tokens = torch.zeros(len(examples), longest, dtype=torch.long)
    scored = torch.zeros(len(examples), longest, dtype=torch.bool)
    for row, example in enumerate(examples):
        if not 0 < example.answer_start < len(example.tokens):
            raise AttributionFailed("an answer without tokens has no gradient")
        tokens[row, : len(example.tokens)] = torch.tensor(example.tokens)
        scored[row, example.answer_start : len(example.tokens)] = True
    return tokens, scored
