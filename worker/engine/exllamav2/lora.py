"""An adapter's file as factors for exllamav2's linears.

Rules of this file:
- The file has been checked (`adapters.validate`); exllamav2's own loader, which unpickles, is never used.
- Factors are A [in, R] and B [R, out] in fp16 with alpha / rank in B, per linear; out is padded as the linear
  is. A composition is concatenation: A side by side, B stacked and weighted.
- exllamav2 reorders the inside of an EXL2 MLP when it loads it: what gate and up give, and what down takes,
  comes in the order of down's rows by activation. The factors are reordered with it; without that, an
  adapter on the MLP is silently wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ....protocol.encoding.fields import PPM
from ....protocol.errors import InvalidAdapter
from ...models.architecture import MLP_LINEARS
from ...models.tensor_file import Malformed, TensorFile
from ..lora.layout import LoraLayout
from ..types import AdapterSource

Factors = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class LinearShape:
    """Of one linear of the loaded base: widths, and the order of its MLP's inside (None: as it was)."""

    inputs: int
    outputs: int
    order: Tensor | None = None


@dataclass(frozen=True, eq=False)
class LoraWeights:
    """An adapter or composition: factors by the linear's key (`model.layers.0.self_attn.q_proj`)."""

    factors: Mapping[str, Factors]

    @cached_property
    def changes_mlp(self) -> bool:
        """Whether any linear of an MLP is changed."""
        return any(is_mlp(key) for key in self.factors)

    @cached_property
    def changes_attention(self) -> bool:
        """Whether any linear of attention is changed."""
        return not all(is_mlp(key) for key in self.factors)


def is_mlp(key: str) -> bool:
    """Whether a linear's key is of an MLP."""
    return key.rpartition(".")[2] in MLP_LINEARS


class FactorLayout(LoraLayout):
    """Factors one after the other, at the adapter's own rank: `size` is the most that a bucket's take."""

    dtype = torch.half

    def __init__(self, shapes: Mapping[str, LinearShape]) -> None:
        self.shapes = shapes

    def size(self, bucket: int) -> int:
        """See LoraLayout."""
        return sum((shape.inputs + shape.outputs) * bucket for shape in self.shapes.values())

    def pack(self, file: TensorFile, source: AdapterSource) -> Tensor:
        """See LoraLayout."""
        scale = source.alpha / source.rank
        pieces = [piece for key in self._keys(source) for piece in self._read(file, key, scale)]
        return torch.cat([piece.flatten() for piece in pieces])

    def find_next(self) -> None:
        """See LoraLayout. Nothing: factors have memory of their own."""

    @property
    def spare_bytes(self) -> int:
        """See LoraLayout."""
        return 0

    def unpack(self, packed: Tensor, source: AdapterSource) -> LoraWeights:
        """Views of what `pack` gave, wherever it lies now."""
        factors: dict[str, Factors] = {}
        start, rank = 0, source.rank
        for key in self._keys(source):
            shape = self.shapes[key]
            middle = start + shape.inputs * rank
            end = middle + rank * shape.outputs
            factors[key] = (packed[start:middle].view(-1, rank), packed[middle:end].view(rank, -1))
            start = end
        return LoraWeights(factors)

    def _keys(self, source: AdapterSource) -> list[str]:
        return [key for key in self.shapes if key.rpartition(".")[2] in source.targets]

    def _read(self, file: TensorFile, key: str, scale: float) -> Factors:
        prefix, shape = f"base_model.model.{key}", self.shapes[key]
        down = _tensor(file, f"{prefix}.lora_A.weight").t()
        up = _tensor(file, f"{prefix}.lora_B.weight").t() * scale
        if shape.order is not None and key.endswith("down_proj"):
            down = down[shape.order]
        elif shape.order is not None:
            up = up[:, shape.order]
        return down.half(), F.pad(up, (0, shape.outputs - up.shape[1])).half()


def _tensor(file: TensorFile, name: str) -> Tensor:
    try:
        return torch.from_numpy(file.array(name)).float()
    except Malformed as wrong:
        raise InvalidAdapter(f"the adapter {file.path} {wrong}") from None


def compose(parts: Sequence[tuple[LoraWeights, int]]) -> LoraWeights:
    """Several adapters as one; each with its weight in parts per million."""
    if len(parts) == 1 and parts[0][1] == PPM:
        return parts[0][0]
    keys = dict.fromkeys(key for part, _ in parts for key in part.factors)
    factors = {
        key: _concatenate([(p.factors[key], ppm) for p, ppm in parts if key in p.factors]) for key in keys
    }
    return LoraWeights(factors)


def _concatenate(found: Sequence[tuple[Factors, int]]) -> Factors:
    return (
        torch.cat([a for (a, _), _ in found], 1).contiguous(),
        torch.cat([b * (ppm / PPM) for (_, b), ppm in found]).contiguous(),
    )
