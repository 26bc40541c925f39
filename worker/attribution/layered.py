"""The decoder layers of a base with one adapter, by torch: for models and machines that `compiled` does not
know.

Rules of this file:
- fp32, eager attention; products with the base's weights round as `frozen` says.
- For y = Wx + s·B(Ax) the gradients of A and B follow from the input x and from dL/dy. The backward pass of y
  records both, so autograd never touches a base weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.memory.streamed import Arena
from ..models.architecture import LINEARS, Architecture, block_of
from .factors import Factors, Watch, tensor_names
from .frozen import FrozenWeight


class AdaptedLinear(nn.Module):
    """A frozen linear plus a low-rank update that can be exchanged."""

    def __init__(self, inner: nn.Linear, names: tuple[str, str], arena: Arena) -> None:
        super().__init__()
        self.weight = FrozenWeight(inner.weight, arena)
        self.bias = inner.bias
        self.down_name, self.up_name = names
        self.factors: tuple[Tensor, Tensor, float] | None = None
        self.recorded: dict[str, Tensor] = {}
        self.watch: Watch | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(examples, tokens, inputs) to (examples, tokens, outputs)."""
        y: Tensor = self.weight(x) if self.factors is None else _AddLow.apply(x, self)  # type: ignore[no-untyped-call]
        return y if self.bias is None else y + self.bias

    def record(self, g: Tensor, back: Tensor, x: Tensor, squeezed: Tensor) -> None:
        """Keep both tensors' gradients: `g` is the loss's at y, `back` at Ax; `squeezed` is s·Ax."""
        self.recorded[self.up_name] = g.transpose(1, 2) @ squeezed
        self.recorded[self.down_name] = back.transpose(1, 2) @ x
        if self.watch is not None:
            self.watch(self.up_name, squeezed.flatten(0, 1), g.flatten(0, 1))
            self.watch(self.down_name, x.flatten(0, 1), back.flatten(0, 1))


class _AddLow(torch.autograd.Function):
    """y = Wx + s·B(Ax), and what its backward pass shows of A and B."""

    @staticmethod
    def forward(context: Any, x: Tensor, linear: AdaptedLinear) -> Tensor:
        assert linear.factors is not None
        down, up, scale = linear.factors
        squeezed = F.linear(x, down) * scale
        context.linear, context.factors = linear, linear.factors
        context.save_for_backward(x, squeezed)
        return linear.weight.forwards(x) + F.linear(squeezed, up)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, squeezed = context.saved_tensors
        down, up, scale = context.factors
        back = gradient @ up * scale
        context.linear.record(gradient, back, x, squeezed)
        return context.linear.weight.backwards(gradient) + back @ down, None


class TorchLayers:
    """All decoder layers with the last norm. `model` is a whole causal language model of transformers, whose
    linears are exchanged."""

    def __init__(self, model: Any, architecture: Architecture) -> None:
        self._model = model
        self._linears = list(_wrap(model, architecture))

    @property
    def terms(self) -> int:
        """bfloat16 numbers whose sum stands for one that is multiplied, 1 or 2."""
        return self._linears[0].weight.terms

    @terms.setter
    def terms(self, terms: int) -> None:
        for linear in self._linears:
            linear.weight.terms = terms

    def use(self, factors: Factors) -> None:
        """Look through this adapter from now on. Targets that it lacks stay the base's."""
        for linear in self._linears:
            down, up = factors.tensors.get(linear.down_name), factors.tensors.get(linear.up_name)
            linear.factors = None if down is None or up is None else (down, up, factors.scale)

    def watch(self, watch: Watch | None) -> None:
        """Tell what every backward pass brings to each tensor's two sides, until told otherwise."""
        for linear in self._linears:
            linear.watch = watch

    def __call__(self, tokens: Tensor) -> Tensor:
        """(1, tokens) to (1, tokens, hidden); a backward pass leaves the adapter's gradients."""
        embedded = self._model.get_input_embeddings()(tokens).requires_grad_(True)
        length = tokens.shape[1]
        blocked = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)[None, None]
        found: Tensor = self._model.model(
            inputs_embeds=embedded, attention_mask=blocked, use_cache=False
        ).last_hidden_state
        return found

    def take_gradients(self) -> dict[str, Tensor]:
        """What the last backward pass left: {tensor: (1, out, in)}."""
        recorded: dict[str, Tensor] = {}
        for linear in self._linears:
            recorded |= linear.recorded
            linear.recorded = {}
        return recorded


def _wrap(model: Any, architecture: Architecture) -> Iterator[AdaptedLinear]:
    arena = Arena()
    for layer in range(architecture.layers):
        for linear in LINEARS:
            block = model.get_submodule(f"model.layers.{layer}.{block_of(linear)}")
            adapted = AdaptedLinear(getattr(block, linear), tensor_names(layer, linear), arena)
            setattr(block, linear, adapted)
            yield adapted
