"""The fallback: one composition for a whole batch, by exllamav2's own LoRA code inside its fused blocks.

A request under another composition waits until the batch has drained; then the model is switched. Pages need
no reset at a switch: their hashes are salted (`pages`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..lora.tiers import Composition
from .library import Linear, Model
from .lora import LoraWeights


class _Switched:
    """The one LoRA that exllamav2 knows at a time."""

    lm_head = None
    embed_tokens = None


class SwitchedLoras:
    """A model under one adapter at a time."""

    def __init__(self, model: Model, linears: Mapping[str, Linear]) -> None:
        self._model = model
        self._linears = linears
        self._current: LoraWeights | None = None
        self._lora = _Switched()
        self.switches = 0

    def may_join(self, running: Sequence[Composition], composition: Composition) -> bool:
        """Whether a request under this composition may run beside those that run."""
        return all(other == composition for other in running)

    def plan(self, members: Sequence[LoraWeights | None]) -> Sequence[object] | None:
        """The list for a pass whose sequences are all under the same adapter."""
        wanted = members[0] if members else self._current
        if wanted is not self._current:
            self._switch(wanted)
        return None if wanted is None else [self._lora]

    def forget(self) -> None:
        """Let go of the current adapter."""
        if self._current is not None:
            self._switch(None)

    def _switch(self, wanted: LoraWeights | None) -> None:
        factors = {} if wanted is None else wanted.factors
        for key, linear in self._linears.items():
            linear.lora_a_tensors.clear()
            linear.lora_b_tensors.clear()
            if key in factors:
                linear.lora_a_tensors[self._lora], linear.lora_b_tensors[self._lora] = factors[key]
        self._model.update_loras()
        self._current = wanted
        self.switches += 1
