"""Another adapter for every row of one batch, on a GPU: a step's plan as tables for `triton_kernels.py`.

Rules of this file:
- Nothing is gathered: a table names the addresses of the slots. It is built anew when the plan changes, in
  one copy to the device, and two kernels a decoder linear then serve the whole batch.
- Neighbouring rows with the same terms share a tile, so their adapter is read once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise

import torch
from torch import Tensor

from ....protocol.ids import Cid
from ...models.architecture import LINEARS, Architecture, linear_shapes
from ..batching.slots import Move, Place
from ..engine import LoadedAdapter
from ..memory.weights import FUSED
from ..types import AdapterSource
from .layout import SMALLEST_BUCKET
from .plan import LoraPlan, SlotTerm, Terms
from .slot_pools import SlotPools
from .torch_lora import Factors, LoraBatch, TorchLora, TorchLoraLayout, changes, place_of
from .triton_kernels import BLOCK_IN, BLOCK_OUT, TILE, expand, shrink

SPLIT_IN = 1024
"""Inputs that one program sums up; more are split among several."""
MOST_SPLITS = 8


@dataclass(frozen=True, slots=True)
class _Shape:
    """One decoder linear's. `edges` (int32) are where the parts' outputs begin and the last part's end, all
    multiples of `aligned`.
    """

    inputs: int
    outputs: int
    parts: int
    widest: int
    aligned: int
    splits: int
    edges: Tensor


@dataclass(frozen=True, slots=True)
class _Tile:
    """Rows [start, start + count), at most TILE, under the same terms."""

    start: int
    count: int
    terms: Terms


@dataclass(frozen=True, slots=True)
class _Tables:
    """One step's tables on the device: `items` [linears, 5, items] by decoder linear, without those that no
    item changes. `narrow` is room for the products between the two kernels.
    """

    layers: tuple[int, int, int]  # items, tiles, blocks of ranks
    items: Mapping[str, Tensor]
    tiles: Tensor
    weights: Tensor
    narrow: Tensor
    shapes: Mapping[str, _Shape]

    def add(self, layer: int, linear: str, x: Tensor, out: Tensor) -> None:
        """See Updates."""
        table = self.items.get(linear)
        if table is None:
            return
        shape = self.shapes[linear]
        items, tiles, blocks = self.layers
        precision = "tf32" if x.dtype == torch.bfloat16 else "ieee"
        shrink[(items, shape.parts * blocks, shape.splits)](
            *(x.contiguous(), self.narrow, table, self.weights, layer, items, blocks),
            *(shape.inputs, shape.parts, shape.splits, precision, TILE, BLOCK_IN),
        )
        expand[(tiles, shape.parts, -(-shape.widest // BLOCK_OUT))](
            *(self.narrow, out, table, self.tiles, shape.edges, layer, items, tiles, blocks),
            *(shape.outputs, shape.aligned, shape.parts, shape.splits, precision, TILE, BLOCK_OUT),
        )


class TritonLora:
    """Makes a step's plan tables over the slots' pools, and keeps the last ones."""

    def __init__(self, architecture: Architecture, layout: TorchLoraLayout, pools: SlotPools) -> None:
        self._layout = layout
        self._pools = pools
        self._shapes = {fused: _shape_of(architecture, fused, layout.device) for fused in FUSED}
        self._factors: dict[Place, dict[str, Factors]] = {}
        self._key: object = None
        self._bound: _Tables | LoraBatch = LoraBatch()

    def bind(self, plan: LoraPlan) -> _Tables | LoraBatch:
        """The plan, ready to multiply until the slots change."""
        tiles = list(_tiles(plan))
        key = [(tile, [self._pools.filling(place_of(term)) for term in tile.terms]) for tile in tiles]
        if key != self._key:
            self._bound = self._tables(tiles) if tiles else LoraBatch()
            self._key = key
        return self._bound

    def _tables(self, tiles: list[_Tile]) -> _Tables:
        device = self._layout.device
        items = [(tile, term) for tile in tiles for term in tile.terms]
        table = torch.tensor([list(self._fields(fused, items)) for fused in FUSED], device=device)
        bounds = pairwise(accumulate((len(tile.terms) for tile in tiles), initial=0))
        rows = [(tile.start, tile.count, *bound) for tile, bound in zip(tiles, bounds, strict=True)]
        blocks = -(-max(term.bucket for _, term in items) // TILE)
        return _Tables(
            layers=(len(items), len(tiles), blocks),
            items={
                fused: table[number]
                for number, fused in enumerate(FUSED)
                if any(self._changes(fused, term) for _, term in items)
            },
            tiles=torch.tensor(list(zip(*rows, strict=True)), device=device),
            weights=torch.tensor([term.weight for _, term in items], device=device),
            narrow=self._room(len(items), blocks),
            shapes=self._shapes,
        )

    def _room(self, items: int, blocks: int) -> Tensor:
        most = max(shape.parts * shape.splits for shape in self._shapes.values())
        return torch.empty(most * items * TILE * blocks * TILE, device=self._layout.device)

    def _fields(self, fused: str, items: list[tuple[_Tile, SlotTerm]]) -> Iterator[list[int]]:
        """The rows of one linear's item table: A, B, rank, first row, rows."""
        factors = [self._factors_of(place_of(term))[fused] for _, term in items]
        yield [a.data_ptr() for a, _ in factors]
        yield [b.data_ptr() for _, b in factors]
        yield [term.bucket if self._changes(fused, term) else 0 for _, term in items]
        yield [tile.start for tile, _ in items]
        yield [tile.count for tile, _ in items]

    def _changes(self, fused: str, term: SlotTerm) -> bool:
        return changes(fused, self._pools.changed(place_of(term)))

    def _factors_of(self, place: Place) -> dict[str, Factors]:
        found = self._factors.get(place)
        if found is None:  # the pool's address never changes
            slot = self._pools.pool(place.bucket)[place.slot]
            found = self._factors[place] = self._layout.factors(slot, place.bucket)
        return found


def _edges(architecture: Architecture, fused: str) -> list[int]:
    """Where each part's outputs begin, and where the last one's end."""
    shapes = linear_shapes(architecture)
    return [0, *accumulate(shapes[linear][0] for linear in FUSED[fused])]


def _shape_of(architecture: Architecture, fused: str, device: torch.device) -> _Shape:
    inputs = linear_shapes(architecture)[FUSED[fused][0]][1]
    edges = _edges(architecture, fused)
    return _Shape(
        inputs=inputs,
        outputs=edges[-1],
        parts=len(edges) - 1,
        widest=max(end - first for first, end in pairwise(edges)),
        aligned=math.gcd(16, *edges),
        splits=min(MOST_SPLITS, -(-inputs // SPLIT_IN)),
        edges=torch.tensor(edges, dtype=torch.int32, device=device),
    )


def _tiles(plan: LoraPlan) -> Iterator[_Tile]:
    """Tiles of all rows that have terms, in order."""
    row = 0
    for terms, same in groupby(plan.decoding):
        end = row + len(list(same))
        yield from _cut(row, end, terms)
        row = end
    for prompt in plan.prompts:
        yield from _cut(prompt.start, prompt.end, prompt.terms)


def _cut(start: int, end: int, terms: Terms) -> Iterator[_Tile]:
    if terms:
        for first in range(start, end, TILE):
            yield _Tile(first, min(TILE, end - first), terms)


@torch.inference_mode()
def rehearse(architecture: Architecture, layout: TorchLoraLayout) -> None:
    """Compile the kernels and compare them with torch, for one row and every linear.

    Raises what Triton raises, RuntimeError when they differ.
    """
    pools, cid = SlotPools(layout, 1), Cid("rehearsal")
    source = AdapterSource(cid, "none", SMALLEST_BUCKET, SMALLEST_BUCKET, LINEARS)
    with pools.prepare(cid, SMALLEST_BUCKET):
        loaded = LoadedAdapter(source, _random_factors(architecture, layout))
    pools.apply([Move(Place(SMALLEST_BUCKET, 1), cid)], {cid: loaded})
    plan = LoraPlan(((SlotTerm(SMALLEST_BUCKET, 1, 1.0),),))
    ours, torchs = TritonLora(architecture, layout, pools).bind(plan), TorchLora(layout, pools).bind(plan)
    for fused in FUSED:
        shape = _shape_of(architecture, fused, layout.device)
        x = torch.randn(1, shape.inputs, dtype=layout.dtype, device=layout.device)
        found, wanted = torch.zeros(2, 1, shape.outputs, dtype=layout.dtype, device=layout.device)
        ours.add(0, fused, x, found)
        torchs.add(0, fused, x, wanted)
        difference = torch.linalg.norm((found - wanted).float()) / torch.linalg.norm(wanted.float())
        if not difference < 0.03:
            raise RuntimeError(f"the kernels are wrong by {float(difference):.3f} at {fused}")


def _random_factors(architecture: Architecture, layout: TorchLoraLayout) -> Tensor:
    """A packed adapter of the smallest bucket that changes every linear."""
    packed = torch.zeros(layout.size(SMALLEST_BUCKET), dtype=layout.dtype)
    for fused, (a, b) in layout.factors(packed, SMALLEST_BUCKET).items():
        a.normal_()
        edges = _edges(architecture, fused)
        for part, (first, end) in enumerate(pairwise(edges)):
            b[:, part * SMALLEST_BUCKET : (part + 1) * SMALLEST_BUCKET, first:end].normal_()
    return packed
