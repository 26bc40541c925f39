"""What computes a step: the seam between the engine's bookkeeping and its arithmetic.

Rules of this file:
- A runner owns weights, keys and values. It is given which tokens of which sequences and which slots, and
  gives logits; it knows nothing of requests, adapters' names or sampling.
- A backend brings a runner and the layout of the adapters that it multiplies with; `backends.py` chooses one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .batching.steps import Work
from .lora.layout import LoraLayout
from .lora.plan import LoraPlan
from .lora.slot_pools import SlotPools

Logits = npt.NDArray[np.float32]


class ModelRunner(ABC):
    """A base, ready to compute steps. One thread at a time."""

    @abstractmethod
    def run(self, works: Sequence[Work], plan: LoraPlan) -> Logits:
        """The logits of each work's last token, [works, vocabulary], good until the next call.

        Works of one token come first; `plan` names their rows in the same order.
        """

    @abstractmethod
    def scrub(self, pages: list[int]) -> None:
        """Zero these pages."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One way to compute. `build` reads the base's weights: it raises InvalidModel."""

    name: str
    layout: LoraLayout
    build: Callable[[SlotPools], ModelRunner]
