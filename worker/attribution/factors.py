"""An adapter's tensors as attribution names and holds them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

from ..models.architecture import Architecture, block_of, linear_shapes

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


def is_down(name: str) -> bool:
    """Whether this tensor is an A, from the inputs down to the rank."""
    return "lora_A" in name


def tensor_names(layer: int, linear: str) -> tuple[str, str]:
    """Of a linear's A and B."""
    path = f"base_model.model.model.layers.{layer}.{block_of(linear)}.{linear}"
    return f"{path}.lora_A.weight", f"{path}.lora_B.weight"


def adapter_shapes(
    architecture: Architecture, rank: int, targets: Collection[str]
) -> dict[str, tuple[int, int]]:
    """The tensors that an adapter of this rank on these linears has, with their shapes."""
    shapes: dict[str, tuple[int, int]] = {}
    wanted = {name: shape for name, shape in linear_shapes(architecture).items() if name in targets}
    for layer in range(architecture.layers):
        for linear, (out, into) in wanted.items():
            down, up = tensor_names(layer, linear)
            shapes |= {down: (rank, into), up: (out, rank)}
    return shapes
