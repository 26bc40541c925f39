"""Products with a base's frozen weights, forwards and backwards, at the speed of the serving engine.

Rules of this file:
- What enters a product, activation or gradient, is rounded to bfloat16 (nearest even), and so are weights
  that are not bfloat16 already; products are exact in float32 and summed in float32. Everything else in
  attribution stays float32.
- With two terms what rounding left is rounded, too, and its product added: eight more bits, at twice the
  products. Two implementations, whose numbers differ a little before rounding, then differ a little after it.
- Where the compiled library is to be had, weights are packed for it, once for each direction; elsewhere torch
  multiplies the same rounded numbers. Sums differ in their order only, as they do between two machines.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import byref
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.memory.streamed import Arena
from ..engine.native import structures
from ..engine.native.library import Unavailable, load_library
from ..engine.native.packing import pack_bf16, padded

Product = Callable[[Tensor], Tensor]
"""x to x W^T, (…, in) to (…, out)."""


class FrozenWeight:
    """A weight (out, in) that is multiplied by and never learnt."""

    def __init__(self, weight: Tensor, arena: Arena) -> None:
        """Packed weights lie in `arena`."""
        self._forwards, self._backwards = (
            choose_product(each, arena) for each in (weight.detach(), weight.detach().T)
        )
        self.terms = 1

    def forwards(self, x: Tensor) -> Tensor:
        """x W^T, (…, in) to (…, out)."""
        return _in_terms(self._forwards, x, self.terms)

    def backwards(self, gradient: Tensor) -> Tensor:
        """Back through it, (…, out) to (…, in)."""
        return _in_terms(self._backwards, gradient, self.terms)

    def __call__(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out), float32; gradients flow to x."""
        found: Tensor = _Multiply.apply(x, self)  # type: ignore[no-untyped-call]
        return found


class _Multiply(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, weight: FrozenWeight) -> Tensor:
        context.weight = weight
        return weight.forwards(x)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return context.weight.backwards(gradient), None


def _in_terms(product: Product, x: Tensor, terms: int) -> Tensor:
    y = product(x)
    return y if terms < 2 else y + product(x - x.to(torch.bfloat16).float())


class _Packed:
    """x W^T by the compiled library."""

    def __init__(self, weight: Tensor, arena: Arena) -> None:
        self._outputs, self._inputs = weight.shape
        self._library = load_library()
        self._weight = arena.keep(pack_bf16(weight))
        self._linear = structures.Linear(self._inputs, self._outputs, 0, 0, self._weight.data_ptr(), None)

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, self._inputs).to(torch.bfloat16).contiguous()
        y = torch.empty(len(rows), padded(self._outputs))
        sizes = len(rows), y.data_ptr(), torch.get_num_threads()
        self._library.commonlore_multiply(byref(self._linear), rows.data_ptr(), *sizes)
        return y[:, : self._outputs].view(*x.shape[:-1], self._outputs)


class _Plain:
    """The same by torch."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight.to(torch.bfloat16).float().contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x.to(torch.bfloat16).float(), self._weight)


def choose_product(weight: Tensor, arena: Arena) -> Product:
    """How to multiply by a weight here."""
    if weight.shape[1] % 2:
        return _Plain(weight)
    try:
        return _Packed(weight, arena)
    except Unavailable:
        return _Plain(weight)
