"""Another adapter for every row of one batch, on torch: low-rank updates beside the base's linears.

Rules of this file:
- An adapter's factors are packed for each decoder linear and all layers together: A [layers, R, in], as files
  have it, then B [layers, R, out] with alpha / rank in it. Where a linear fuses several targets, R is the
  bucket's rank once for each, and B is block-diagonal, so that one product serves them all.
- Rows that decode are gathered by slot (`_Gathered`, one bmm for the rows of a bucket); a prompt's rows are
  one `_Segment` for each of its terms (two matmuls). What is gathered is kept while rows and slots stay the
  same.
- A linear that none of a group's adapters changes is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from ...models.architecture import Architecture, linear_shapes
from ...models.tensor_file import TensorFile
from ..batching.slots import Place
from ..memory.devices import CPU
from ..memory.weights import FUSED
from ..types import AdapterSource
from .layout import Blanks, LoraLayout, read_factor
from .plan import LoraPlan, SlotTerm, Terms
from .slot_pools import SlotPools

Factors = tuple[Tensor, Tensor]
"""(A [..., layers, R, in], B [..., layers, R, out]) of one decoder linear; `...` are slots."""


class TorchLoraLayout(LoraLayout):
    """Factors as the products below want them."""

    def __init__(self, architecture: Architecture, dtype: torch.dtype, device: torch.device = CPU) -> None:
        self.dtype = dtype
        self.device = device
        self._layers = architecture.layers
        self._shapes = linear_shapes(architecture)
        self._blanks = Blanks()

    def size(self, bucket: int) -> int:
        """See LoraLayout."""
        return sum(down + up for _, down, up in self._blocks(bucket))

    def factors(self, packed: Tensor, bucket: int) -> dict[str, Factors]:
        """The factors in packed adapters [..., size] of a bucket, as views, by decoder linear."""
        found: dict[str, Factors] = {}
        offset = 0
        for fused, down, up in self._blocks(bucket):
            shape = (*packed.shape[:-1], self._layers, bucket * len(FUSED[fused]), -1)
            a = packed[..., offset : offset + down].view(shape)
            b = packed[..., offset + down : offset + down + up].view(shape)
            found[fused] = a, b
            offset += down + up
        return found

    def find_next(self) -> None:
        """See LoraLayout."""
        self._blanks.find_next()

    @property
    def spare_bytes(self) -> int:
        """See LoraLayout."""
        return self._blanks.bytes

    def pack(self, file: TensorFile, source: AdapterSource) -> Tensor:
        """See LoraLayout."""
        bucket = self.bucket_of(source)
        pinned = self.device.type == "cuda"  # so that a slot is filled without waiting
        packed = self._blanks.take(self.size(bucket), self.dtype, pinned)
        for fused, factors in self.factors(packed, bucket).items():
            self._fill(file, source, fused, factors)
        return packed

    def _fill(self, file: TensorFile, source: AdapterSource, fused: str, factors: Factors) -> None:
        first, scale = 0, source.alpha / source.rank
        bucket = factors[0].shape[1] // len(FUSED[fused])
        for place, linear in enumerate(FUSED[fused]):
            rows = slice(place * bucket, place * bucket + source.rank)
            width = self._shapes[linear][0]
            if linear in source.targets:
                factors[0][:, rows] = read_factor(file, self._layers, linear, "A")
                up = read_factor(file, self._layers, linear, "B").transpose(1, 2)
                factors[1][:, rows, first : first + width] = up.float() * scale
            first += width

    def _blocks(self, bucket: int) -> Iterator[tuple[str, int, int]]:
        """Each decoder linear with the elements of its A and B."""
        for fused, linears in FUSED.items():
            rank = bucket * len(linears) * self._layers
            yield (
                fused,
                rank * self._shapes[linears[0]][1],
                rank * sum(self._shapes[one][0] for one in linears),
            )


# ---- one step's batch


@dataclass(frozen=True, slots=True)
class _Segment:
    """Rows [start, end) under one adapter: factors [layers, R, in] and [layers, R, out]."""

    start: int
    end: int
    weight: float
    factors: Mapping[str, Factors]

    def add(self, layer: int, linear: str, x: Tensor, out: Tensor) -> None:
        if linear in self.factors:
            a, b = self.factors[linear]
            narrow = x[self.start : self.end] @ a[layer].t()
            out[self.start : self.end].addmm_(narrow, b[layer], alpha=self.weight)


@dataclass(frozen=True, slots=True)
class _Gathered:
    """Rows, each under its own adapter: factors [layers, count, R, in] and [layers, count, R, out].

    `rows` are consecutive, or (int64 [count]) any, the same one several times where it composes adapters.
    """

    rows: slice | Tensor
    factors: Mapping[str, Factors]

    def add(self, layer: int, linear: str, x: Tensor, out: Tensor) -> None:
        if linear not in self.factors:
            return
        a, b = self.factors[linear]
        narrow = torch.bmm(x[self.rows].unsqueeze(1), a[layer].transpose(1, 2))
        if isinstance(self.rows, slice):
            out[self.rows].unsqueeze(1).baddbmm_(narrow, b[layer])
        else:
            out.index_add_(0, self.rows, torch.bmm(narrow, b[layer]).squeeze(1))


@dataclass(frozen=True, slots=True)
class LoraBatch:
    """What one step adds to the base's linears."""

    groups: tuple[_Segment | _Gathered, ...] = ()

    def add(self, layer: int, linear: str, x: Tensor, out: Tensor) -> None:
        """out += the low-rank update of x. x is [rows, in], out [rows, out], changed in place."""
        for group in self.groups:
            group.add(layer, linear, x, out)


_Entry = tuple[int, SlotTerm]
"""A decoding row and one of its terms."""


class TorchLora:
    """Makes a step's plan a `LoraBatch` over the slots' pools, and keeps what the last one gathered."""

    def __init__(self, layout: TorchLoraLayout, pools: SlotPools) -> None:
        self._layout = layout
        self._pools = pools
        self._pool_factors: dict[int, dict[str, Factors]] = {}
        self._slot_factors: dict[Place, dict[str, Factors]] = {}
        self._key: object = None
        self._decoding: tuple[_Segment | _Gathered, ...] = ()

    def bind(self, plan: LoraPlan) -> LoraBatch:
        """The plan, ready to multiply until the slots change."""
        prompts = (
            self._segment(prompt.start, prompt.end, term) for prompt in plan.prompts for term in prompt.terms
        )
        return LoraBatch((*self._bind_decoding(plan.decoding), *prompts))

    def _bind_decoding(self, rows: Sequence[Terms]) -> tuple[_Segment | _Gathered, ...]:
        key = [
            (row, term, self._pools.filling(place_of(term)))
            for row, terms in enumerate(rows)
            for term in terms
        ]
        if key != self._key:
            self._key, self._decoding = None, ()  # freed before the next is built
            self._decoding = tuple(self._groups(rows))
            self._key = key
        return self._decoding

    def _groups(self, rows: Sequence[Terms]) -> Iterator[_Segment | _Gathered]:
        single = [(row, terms[0]) for row, terms in enumerate(rows) if len(terms) == 1]
        for bucket, entries in groupby(single, lambda entry: entry[1].bucket):
            yield self._group(bucket, list(entries))
        composed = [(row, term) for row, terms in enumerate(rows) if len(terms) > 1 for term in terms]
        composed.sort(key=lambda entry: entry[1].bucket)
        for bucket, entries in groupby(composed, lambda entry: entry[1].bucket):
            mixed = list(entries)
            yield self._gather(bucket, mixed, self._indices(row for row, _ in mixed))

    def _group(self, bucket: int, entries: Sequence[_Entry]) -> _Segment | _Gathered:
        """Entries of different rows; these are consecutive where the engine has put them in order."""
        (first, term), (last, _) = entries[0], entries[-1]
        consecutive = last - first + 1 == len(entries)
        if consecutive and all(other == term for _, other in entries):
            return self._segment(first, last + 1, term)
        rows = slice(first, last + 1) if consecutive else self._indices(row for row, _ in entries)
        return self._gather(bucket, entries, rows)

    def _segment(self, start: int, end: int, term: SlotTerm) -> _Segment:
        changed = self._pools.changed(place_of(term))
        factors = {
            fused: found
            for fused, found in self._factors_of(place_of(term)).items()
            if changes(fused, changed)
        }
        return _Segment(start, end, term.weight, factors)

    def _factors_of(self, place: Place) -> dict[str, Factors]:
        found = self._slot_factors.get(place)
        if found is None:  # the pool's address never changes, so neither do these views
            slot = self._pools.pool(place.bucket)[place.slot]
            found = self._slot_factors[place] = self._layout.factors(slot, place.bucket)
        return found

    def _gather(self, bucket: int, entries: Sequence[_Entry], rows: slice | Tensor) -> _Gathered:
        if bucket not in self._pool_factors:
            self._pool_factors[bucket] = self._layout.factors(self._pools.pool(bucket), bucket)
        terms = [term for _, term in entries]
        changed = {target for term in terms for target in self._pools.changed(place_of(term))}
        slots = self._indices(term.slot for term in terms)
        factors: dict[str, Factors] = {}
        for fused, (a, b) in self._pool_factors[bucket].items():
            if changes(fused, changed):
                downs, ups = (side.transpose(0, 1).index_select(1, slots) for side in (a, b))
                factors[fused] = downs, _weighted(ups, terms)
        return _Gathered(rows, factors)

    def _indices(self, numbers: Iterable[int]) -> Tensor:
        return torch.tensor(list(numbers), device=self._layout.device)


def _weighted(ups: Tensor, terms: Sequence[SlotTerm]) -> Tensor:
    """B [layers, count, R, out] times the terms' weights."""
    if all(term.weight == 1.0 for term in terms):
        return ups
    weights = torch.tensor([term.weight for term in terms], device=ups.device)
    return (ups.float() * weights[:, None, None]).to(ups.dtype)


def changes(fused: str, targets: Iterable[str]) -> bool:
    """Whether an adapter of these targets changes this decoder linear."""
    return not set(FUSED[fused]).isdisjoint(targets)


def place_of(term: SlotTerm) -> Place:
    """Where its adapter lies."""
    return Place(term.bucket, term.slot)
