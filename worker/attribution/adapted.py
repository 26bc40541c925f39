"""The reference model with one adapter beside its linears, made to tell an example's gradient of the adapter
alone.

Rules of this file:
- One example at a time, fp32, eager attention, frozen base: what is computed is stated, not left to a
  kernel's choice. Products with the base's weights round what they multiply to bfloat16, as serving does, or
  to two terms of it, which an index needs (`frozen`).
- Where the compiled layers are to be had they are used, elsewhere torch: both compute the same up to the
  order of sums. Nothing of transformers is loaded for the compiled ones.
- One model serves many adapters: `use` swaps the factors that the linears look at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.memory.streamed import Arena
from ..engine.memory.weights import WeightReader
from ..engine.native.library import Unavailable
from ..factory.lora import load_model
from ..models.reference import BaseModel
from .compiled import CompiledLayers
from .factors import Factors, Watch
from .frozen import FrozenWeight
from .layered import TorchLayers


class Layers(Protocol):
    """Everything of a model between its tokens and its head, with one adapter at a time."""

    terms: int
    """bfloat16 numbers whose sum stands for one that is multiplied, 1 or 2 (`frozen`)."""

    def use(self, factors: Factors) -> None:
        """Look through this adapter from now on. Targets that it lacks stay the base's."""

    def watch(self, watch: Watch | None) -> None:
        """Tell what every backward pass brings to each tensor's two sides, until told otherwise."""

    def __call__(self, tokens: Tensor) -> Tensor:
        """(1, tokens) to (1, tokens, hidden); a backward pass leaves the adapter's gradients."""
        ...

    def take_gradients(self) -> dict[str, Tensor]:
        """What the last backward pass left: {tensor: (1, out, in)}, good until the next one."""
        ...


class AdaptedModel:
    """A base's reference weights with room for one adapter at a time. Not for several threads."""

    def __init__(self, base: BaseModel, *, compiled: bool = True) -> None:
        """`compiled` False: by torch even where the compiled layers are to be had."""
        self.architecture = base.architecture
        reader = WeightReader(base.weights(), base.architecture, torch.float32)
        embedding = reader.embedding()
        self._head = FrozenWeight(reader.head(embedding).weight, Arena())
        self._layers: Layers = _layers(base, embedding, reader.norm()) if compiled else _by_torch(base)

    @property
    def is_compiled(self) -> bool:
        """Whether the compiled layers are to be had here, for this base."""
        return isinstance(self._layers, CompiledLayers)

    def use(self, factors: Factors) -> None:
        """Look through this adapter from now on. Targets that it lacks stay the base's."""
        self._layers.use(factors)

    def round_to(self, terms: int) -> None:
        """Multiply in so many bfloat16 terms from now on, 1 or 2 (`frozen`)."""
        self._layers.terms = self._head.terms = terms

    def watch(self, watch: Watch | None) -> None:
        """Tell what every backward pass brings to each tensor's two sides, until told otherwise."""
        self._layers.watch(watch)

    def answer_nll(
        self, tokens: Tensor, scored: Tensor, draw: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """An example's mean nats a scored token, ().

        `tokens` (1, length); `scored` (1, length) marks the tokens to predict. `draw` of the logits (scored
        tokens, vocabulary) gives what is scored in their place.
        """
        hidden = self._layers(tokens)
        wanted = scored[0, 1:]
        logits = self._head(hidden[0, :-1][wanted])
        targets = tokens[0, 1:][wanted] if draw is None else draw(logits.detach())
        return F.cross_entropy(logits, targets)

    def take_gradients(self) -> dict[str, Tensor]:
        """What the last backward pass left: {tensor: (1, out, in)}, good until the next one."""
        return self._layers.take_gradients()


def _layers(base: BaseModel, embedding: Tensor, norm: Tensor) -> Layers:
    try:
        return CompiledLayers(base, embedding, norm)
    except Unavailable:
        return _by_torch(base)


def _by_torch(base: BaseModel) -> Layers:
    return TorchLayers(load_model(base, torch.float32), base.architecture)
