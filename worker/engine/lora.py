"""Another adapter for every row of one batch: low-rank updates beside the base's linears.

Rules of this file:
- An adapter's factors are stored per decoder linear: A [in, R], B [R, out] with alpha / rank in B. Where a
  linear fuses several targets, R is their ranks together and B is block-diagonal, so that one product serves
  them all.
- A composition is concatenation: A side by side, B stacked and weighted. So the batch only ever sees one pair
  a row.
- Rows that decode are multiplied together (`_Gathered`, one bmm); a prompt's rows are one `_Segment` (two
  matmuls). What a batch gathers is kept while its members stay the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...protocol.errors import InvalidAdapter
from ...protocol.requests import PPM
from ..models.architecture import Architecture, block_of, linear_shapes
from ..models.tensor_file import Malformed, TensorFile
from .weights import FUSED

Factors = tuple[Tensor, Tensor]
"""(A [in, R], B [R, out]) of one linear."""


@dataclass(frozen=True, slots=True, eq=False)
class LoraWeights:
    """An adapter or composition, ready to multiply: for each layer the factors of the linears that it
    changes.
    """

    layers: tuple[Mapping[str, Factors], ...]
    rank: int


def read_lora(file: TensorFile, architecture: Architecture, scale: float, dtype: torch.dtype) -> LoraWeights:
    """A validated adapter file as factors. `scale` is alpha / rank.

    Raises InvalidAdapter when the file is cut meanwhile.
    """
    try:
        tensors = {name: torch.from_numpy(array).to(torch.float32) for name, array in file.arrays()}
    except Malformed as wrong:
        raise InvalidAdapter(f"the adapter {file.path} {wrong}") from None
    layers = tuple(
        _layer_factors(tensors, architecture, layer, scale, dtype) for layer in range(architecture.layers)
    )
    return LoraWeights(layers, max(min(tensor.shape) for tensor in tensors.values()))


def _layer_factors(
    tensors: Mapping[str, Tensor], architecture: Architecture, layer: int, scale: float, dtype: torch.dtype
) -> dict[str, Factors]:
    shapes = linear_shapes(architecture)
    found: dict[str, Factors] = {}
    for fused, linears in FUSED.items():
        downs, ups, offset = [], [], 0
        width = sum(shapes[linear][0] for linear in linears)
        for linear in linears:
            prefix = f"base_model.model.model.layers.{layer}.{block_of(linear)}.{linear}"
            if f"{prefix}.lora_A.weight" in tensors:
                down, up = tensors[f"{prefix}.lora_A.weight"], tensors[f"{prefix}.lora_B.weight"]
                block = torch.zeros(down.shape[0], width)
                block[:, offset : offset + up.shape[0]] = up.t() * scale
                downs.append(down.t())
                ups.append(block)
            offset += shapes[linear][0]
        if downs:
            found[fused] = torch.cat(downs, 1).to(dtype).contiguous(), torch.cat(ups).to(dtype).contiguous()
    return found


def compose(parts: Sequence[tuple[LoraWeights, int]]) -> LoraWeights:
    """Several adapters as one; each with its weight in parts per million."""
    if len(parts) == 1 and parts[0][1] == PPM:
        return parts[0][0]
    count = len(parts[0][0].layers)
    return LoraWeights(
        tuple(_compose_layer([(part.layers[layer], ppm) for part, ppm in parts]) for layer in range(count)),
        sum(part.rank for part, _ in parts),
    )


def _compose_layer(parts: Sequence[tuple[Mapping[str, Factors], int]]) -> dict[str, Factors]:
    composed: dict[str, Factors] = {}
    for fused in FUSED:
        found = [(*layer[fused], ppm / PPM) for layer, ppm in parts if fused in layer]
        if found:
            composed[fused] = torch.cat([a for a, _, _ in found], 1), torch.cat([b * w for _, b, w in found])
    return composed


# ---- one step's batch


@dataclass(frozen=True, slots=True)
class _Segment:
    """Consecutive rows [start, end) under one adapter."""

    start: int
    end: int
    weights: LoraWeights

    def add(self, layer: int, linear: str, x: Tensor, out: Tensor) -> None:
        factors = self.weights.layers[layer].get(linear)
        if factors is not None:
            out[self.start : self.end].addmm_(x[self.start : self.end] @ factors[0], factors[1])


@dataclass(frozen=True, slots=True)
class _Gathered:
    """Rows 0 … count - 1, each under its own adapter: factors [count, in, R] and [count, R, out]."""

    count: int
    layers: tuple[Mapping[str, Factors], ...]

    def add(self, layer: int, linear: str, x: Tensor, out: Tensor) -> None:
        factors = self.layers[layer].get(linear)
        if factors is not None:
            narrow = torch.bmm(x[: self.count].unsqueeze(1), factors[0])
            out[: self.count].unsqueeze(1).baddbmm_(narrow, factors[1])


@dataclass(frozen=True, slots=True)
class LoraBatch:
    """What one step adds to the base's linears."""

    groups: tuple[_Segment | _Gathered, ...] = ()

    def add(self, layer: int, linear: str, x: Tensor, out: Tensor) -> None:
        """out += the low-rank update of x. x is [rows, in], out [rows, out], changed in place."""
        for group in self.groups:
            group.add(layer, linear, x, out)


@dataclass(slots=True)
class LoraBatcher:
    """Plans each step's `LoraBatch` and keeps the last gathered stack."""

    _members: tuple[LoraWeights, ...] = ()
    _gathered: _Gathered | None = field(default=None)

    def plan(
        self, decoding: Sequence[LoraWeights], segments: Sequence[tuple[int, int, LoraWeights | None]]
    ) -> LoraBatch:
        """`decoding`: the adapters of rows 0, 1, …; `segments`: (start, end, adapter) of prompts' rows."""
        prompts = tuple(
            _Segment(start, end, weights) for start, end, weights in segments if weights is not None
        )
        if not decoding:
            return LoraBatch(prompts)
        if all(one is decoding[0] for one in decoding):
            return LoraBatch((_Segment(0, len(decoding), decoding[0]), *prompts))
        return LoraBatch((self._gather(tuple(decoding)), *prompts))

    def forget(self) -> None:
        """Let go of the last stack."""
        self._members, self._gathered = (), None

    def _gather(self, members: tuple[LoraWeights, ...]) -> _Gathered:
        if self._gathered is None or not _same(self._members, members):
            self._gathered = None  # freed before the next is built
            layers = tuple(_stack(members, layer) for layer in range(len(members[0].layers)))
            self._members, self._gathered = members, _Gathered(len(members), layers)
        return self._gathered


def _same(first: Sequence[LoraWeights], second: Sequence[LoraWeights]) -> bool:
    return len(first) == len(second) and all(a is b for a, b in zip(first, second, strict=True))


def _stack(members: Sequence[LoraWeights], layer: int) -> dict[str, Factors]:
    stacked: dict[str, Factors] = {}
    for fused in FUSED:
        found = [
            (row, member.layers[layer][fused])
            for row, member in enumerate(members)
            if fused in member.layers[layer]
        ]
        if not found:
            continue
        rank = max(a.shape[1] for _, (a, _) in found)
        example_a, example_b = found[0][1]
        down = example_a.new_zeros(len(members), example_a.shape[0], rank)
        up = example_b.new_zeros(len(members), rank, example_b.shape[1])
        for row, (a, b) in found:
            down[row, :, : a.shape[1]] = a
            up[row, : b.shape[0]] = b
        stacked[fused] = down, up
    return stacked
