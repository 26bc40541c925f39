"""The early checkpoint of a run: the mean of the adapters after some early steps.

Rules of this file:
- Influence is read where a model begins to learn its rows, not where it has learnt them by heart. One step's
  adapter carries the noise of its last batches; the mean of several does not, and costs an answer nothing.
- Sums are float32 and follow the order of steps, so that a run that was killed goes on to the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class EarlyMean:
    """The sum of the adapters after the steps that count, as far as a run has come; empty before."""

    def __init__(self, steps: range, sums: Mapping[str, Tensor] | None = None) -> None:
        self.steps = steps
        self.sums = dict(sums or {})

    @torch.no_grad()
    def add(self, step: int, parameters: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
        """Count the adapter after this step, if it counts; the mean once it is complete."""
        if step not in self.steps:
            return None
        for name, parameter in parameters.items():
            sum_so_far = self.sums.get(name)
            value = parameter.detach().float()
            self.sums[name] = value.clone() if sum_so_far is None else sum_so_far + value
        if step != self.steps[-1]:
            return None
        return {name: each / len(self.steps) for name, each in self.sums.items()}
