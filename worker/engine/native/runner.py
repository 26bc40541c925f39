"""Steps computed by the compiled library: from works and slots to its arrays.

Rules of this file:
- Rows are told by arrays that numpy fills; what a slot holds is described once and kept until the slot
  changes, or a step does without it: there are as many weights as compositions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ctypes import c_int64

import numpy as np
import numpy.typing as npt
import torch

from ...models.reference import BaseModel
from ..batching.slots import Place
from ..batching.steps import Work
from ..lora.plan import LoraPlan, SlotTerm, Terms
from ..lora.slot_pools import SlotPools
from ..memory.weights import WeightReader
from ..runner import Backend, Logits, ModelRunner
from ..types import EngineConfig
from . import structures as c
from .lora_layout import NativeLoraLayout
from .model import PAGE_SIZE, PackedModel, Rows

Indices = npt.NDArray[np.int32]


class NativeRunner(ModelRunner):
    """A packed base at bf16 or int4."""

    def __init__(self, model: PackedModel, layout: NativeLoraLayout, pools: SlotPools) -> None:
        self._model = model
        self._layout = layout
        self._pools = pools
        self._lows: dict[SlotTerm, tuple[int, c.Low]] = {}

    def run(self, works: Sequence[Work], plan: LoraPlan) -> Logits:
        """See ModelRunner."""
        counts = np.fromiter((work.count for work in works), np.int64, len(works))
        starts = np.fromiter((work.start for work in works), np.int64, len(works))
        ends = np.cumsum(counts)
        sequences = np.repeat(np.arange(len(works)), counts)
        positions = np.arange(ends[-1]) - (ends - counts - starts)[sequences]
        terms = [*plan.decoding, *(prompt.terms for prompt in plan.prompts)]
        lora_starts, lora_items, lows = self._adapters(terms, counts)
        return self._model.forward(
            Rows(
                tokens=np.fromiter(_tokens(works), np.int32, int(ends[-1])),
                positions=positions.astype(np.int32),
                sequences=sequences.astype(np.int32),
                tables=_tables(works),
                wanted=(ends - 1).astype(np.int32),
                lora_starts=lora_starts,
                lora_items=lora_items,
                lows=lows,
            )
        )

    def scrub(self, pages: list[int]) -> None:
        """See ModelRunner."""
        self._model.scrub(pages)

    def _adapters(
        self, terms: Sequence[Terms], counts: npt.NDArray[np.int64]
    ) -> tuple[Indices, Indices, list[c.Low]]:
        """Each row's terms as indices: [rows + 1], [terms of all rows], and what these point to."""
        number: dict[SlotTerm, int] = {}
        own = [[number.setdefault(term, len(number)) for term in row] for row in terms]
        lengths = np.fromiter((len(row) for row in own), np.int64, len(own))
        starts = np.zeros(int(counts.sum()) + 1, np.int32)
        np.cumsum(np.repeat(lengths, counts), out=starts[1:])
        items = [np.tile(np.array(row, np.int32), count) for row, count in zip(own, counts, strict=True)]
        self._lows = {term: self._low(term) for term in number}  # and no longer any that are not in this step
        return starts, np.concatenate(items), [low for _, low in self._lows.values()]

    def _low(self, term: SlotTerm) -> tuple[int, c.Low]:
        place = Place(term.bucket, term.slot)
        filling = self._pools.filling(place)
        known = self._lows.get(term)
        if known is None or known[0] != filling:
            known = filling, self._describe(place, term.weight)
        return known

    def _describe(self, place: Place, weight: float) -> c.Low:
        offsets, size = self._layout.offsets(place.bucket)
        changed = self._pools.changed(place)
        shown = (at if name in changed else -1 for name, at in zip(c.TARGETS, offsets, strict=True))
        return c.Low(
            slot=self._pools.pool(place.bucket)[place.slot].data_ptr(),
            layer_size=size,
            offsets=(c_int64 * len(c.TARGETS))(*shown),
            rank=place.bucket,
            weight=weight,
        )


def _tokens(works: Sequence[Work]) -> Iterator[int]:
    for work in works:
        yield from work.sequence.tokens[work.start : work.start + work.count]


def _tables(works: Sequence[Work]) -> Indices:
    """Block tables side by side, the shorter ones padded with page 0."""
    used = [work.sequence.table[: -(-(work.start + work.count) // PAGE_SIZE)] for work in works]
    tables = np.zeros((len(used), max(map(len, used))), np.int32)
    for row, pages in zip(tables, used, strict=True):
        row[: len(pages)] = pages
    return tables


def native_backend(config: EngineConfig, base: BaseModel, max_context: int) -> Backend:
    """The compiled library, for this configuration; `why_not_native` must have no objection."""
    layout = NativeLoraLayout(base.architecture)

    def build(pools: SlotPools) -> ModelRunner:
        reader = WeightReader(base.weights(), base.architecture, torch.float32)
        return NativeRunner(PackedModel(reader, config.precision, config.pages, max_context), layout, pools)

    return Backend("native", layout, build)
