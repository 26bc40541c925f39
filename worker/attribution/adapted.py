"""The reference model with one adapter beside its linears, made to tell each example's gradient of the
adapter alone.

Rules of this file:
- fp32, eager attention, frozen base: what is computed is stated, not left to a kernel's choice.
- For y = Wx + s·B(Ax) the gradients of A and B follow from the input x and from dL/dy. A hook on y records
  both products per example, so a batch gives every example's own gradient, and autograd never touches a base
  weight.
- One model serves many adapters: `use` swaps the factors that the linears look at.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..factory.lora import load_model
from ..models.architecture import LINEARS, Architecture, block_of, linear_shapes
from ..models.reference import BaseModel

_PREFIX = "base_model.model."
Watch = Callable[[str, Tensor, Tensor], None]
"""Told of a tensor y = Wx: its name, its inputs x (tokens, in), the loss's gradients at y (tokens, out)."""


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """An adapter's float32 tensors under their file names, and alpha / rank."""

    tensors: Mapping[str, Tensor]
    scale: float

    @property
    def names(self) -> list[str]:
        """Sorted: the order of a gradient's coordinates."""
        return sorted(self.tensors)

    @property
    def size(self) -> int:
        """Coordinates of a gradient."""
        return sum(tensor.numel() for tensor in self.tensors.values())


class AdaptedLinear(nn.Module):
    """A frozen linear plus a low-rank update that can be exchanged."""

    def __init__(self, inner: nn.Linear, path: str) -> None:
        super().__init__()
        self.inner = inner
        self.down_name = f"{_PREFIX}{path}.lora_A.weight"
        self.up_name = f"{_PREFIX}{path}.lora_B.weight"
        self.factors: tuple[Tensor, Tensor, float] | None = None
        self.recorded: dict[str, Tensor] = {}
        self.watch: Watch | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(examples, tokens, inputs) to (examples, tokens, outputs)."""
        y = F.linear(x, self.inner.weight, self.inner.bias)
        if self.factors is None:
            return y
        down, up, scale = self.factors
        squeezed = F.linear(x, down)
        y = y + F.linear(squeezed, up) * scale
        if y.requires_grad:
            y.register_hook(  # type: ignore[no-untyped-call]
                lambda g: self._record(g.detach(), x.detach(), squeezed.detach())
            )
        return y

    def _record(self, g: Tensor, x: Tensor, squeezed: Tensor) -> None:
        assert self.factors is not None
        _, up, scale = self.factors
        squeezed, back = squeezed * scale, g @ up * scale
        self.recorded[self.up_name] = torch.einsum("nto,ntr->nor", g, squeezed)
        self.recorded[self.down_name] = torch.einsum("ntr,nti->nri", back, x)
        if self.watch is not None:
            self.watch(self.up_name, squeezed.flatten(0, 1), g.flatten(0, 1))
            self.watch(self.down_name, x.flatten(0, 1), back.flatten(0, 1))


class AdaptedModel:
    """A base's reference weights in fp32 with room for one adapter at a time. Not for several threads."""

    def __init__(self, base: BaseModel) -> None:
        self.architecture = base.architecture
        self._model: Any = load_model(base, torch.float32)
        self._linears = list(_wrap(self._model, base.architecture))

    def use(self, factors: Factors) -> None:
        """Look through this adapter from now on. Targets that it lacks stay the base's."""
        for linear in self._linears:
            down, up = factors.tensors.get(linear.down_name), factors.tensors.get(linear.up_name)
            linear.factors = None if down is None or up is None else (down, up, factors.scale)

    def watch(self, watch: Watch | None) -> None:
        """Tell what every backward pass brings to each tensor's two sides, until told otherwise."""
        for linear in self._linears:
            linear.watch = watch

    def answer_nll(
        self, tokens: Tensor, scored: Tensor, draw: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Each example's mean nats a scored token, (examples,).

        `tokens` (examples, length), padded on the right; `scored` (examples, length) marks the tokens to
        predict. `draw` of the logits (scored tokens, vocabulary) gives what is scored in their place.
        """
        embedded = self._model.get_input_embeddings()(tokens).requires_grad_(True)
        length = tokens.shape[1]
        blocked = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)[None, None]
        hidden = self._model.model(
            inputs_embeds=embedded, attention_mask=blocked, use_cache=False
        ).last_hidden_state
        wanted = scored[:, 1:]
        logits = self._model.lm_head(hidden[:, :-1][wanted])
        targets = tokens[:, 1:][wanted] if draw is None else draw(logits.detach())
        losses = F.cross_entropy(logits, targets, reduction="none")
        owners = torch.arange(len(tokens))[:, None].expand_as(wanted)[wanted]
        totals = torch.zeros(len(tokens)).index_add(0, owners, losses)
        return totals / wanted.sum(1)

    def take_gradients(self) -> dict[str, Tensor]:
        """What the last backward pass left: {tensor: (examples, out, in)}."""
        recorded: dict[str, Tensor] = {}
        for linear in self._linears:
            recorded |= linear.recorded
            linear.recorded = {}
        return recorded


def _wrap(model: Any, architecture: Architecture) -> Iterator[AdaptedLinear]:
    for layer in range(architecture.layers):
        for linear in LINEARS:
            path = f"model.layers.{layer}.{block_of(linear)}"
            block = model.get_submodule(path)
            adapted = AdaptedLinear(getattr(block, linear), f"{path}.{linear}")
            setattr(block, linear, adapted)
            yield adapted


def adapter_shapes(
    architecture: Architecture, rank: int, targets: Collection[str]
) -> dict[str, tuple[int, int]]:
    """The tensors that an adapter of this rank on these linears has, with their shapes."""
    shapes: dict[str, tuple[int, int]] = {}
    wanted = {name: shape for name, shape in linear_shapes(architecture).items() if name in targets}
    for layer in range(architecture.layers):
        for linear, (out, into) in wanted.items():
            path = f"{_PREFIX}model.layers.{layer}.{block_of(linear)}.{linear}"
            shapes |= {f"{path}.lora_A.weight": (rank, into), f"{path}.lora_B.weight": (out, rank)}
    return shapes
