"""EK-FAC in full (Grosse et al., "Studying Large Language Model Generalization with Influence Functions",
2023): what worker/attribution approximates within its limits, kept here as an oracle.

A matrix's curvature is taken in the eigenbases of its inputs' and its outputs' gradients' covariances, its
values there from the second moments of single examples' gradients. A whitened gradient is the rotated one
over sqrt(value + damping · mean value), so that a dot product of two applies the inverse curvature between
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from commonlore.worker.factory.examples import Example

from .gradients import Gradients, fisher_gradients

DAMPING = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Whitening:
    """By matrix: eigenbases of outputs and inputs, and the curvature's values there, (outputs, inputs)."""

    bases: Mapping[str, tuple[Tensor, Tensor]]
    values: Mapping[str, Tensor]

    def __call__(self, gradients: Gradients, damping: float = DAMPING) -> Tensor:
        """(examples, coordinates)."""
        whitened = []
        for name, rotated in _rotate(self.bases, gradients).items():
            value = self.values[name]
            whitened.append((rotated * (value + damping * value.mean()).rsqrt()).flatten(1))
        return torch.cat(whitened, dim=1)

    @property
    def bytes(self) -> int:
        """Of all factors in float32."""
        tensors = [each for pair in self.bases.values() for each in pair] + list(self.values.values())
        return 4 * sum(tensor.numel() for tensor in tensors)


def fit_whitening(model: Any, examples: Sequence[Example], seed: int) -> Whitening:
    """The curvature of a model on these examples, from labels that it draws itself."""
    gradients, covariances = fisher_gradients(model, examples, seed)
    bases = {
        name: (
            torch.linalg.eigh(covariances.outputs[name])[1],
            torch.linalg.eigh(covariances.inputs[name])[1],
        )
        for name in gradients.by_matrix
    }
    rotated = _rotate(bases, gradients)
    return Whitening(bases, {name: each.square().mean(0) for name, each in rotated.items()})


def _rotate(bases: Mapping[str, tuple[Tensor, Tensor]], gradients: Gradients) -> dict[str, Tensor]:
    return {name: bases[name][0].T @ each @ bases[name][1] for name, each in gradients.by_matrix.items()}
