"""The slots' memory on the device: an adapter's factors where the table put it, and compositions of them."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch

from ....protocol.ids import Cid
from ..batching.slots import Move, Place, SlotTable
from ..engine import LoadedAdapter
from ..lora.slot_pools import SlotPools
from ..lora.tiers import Composition
from .lora import FactorLayout, LoraWeights, compose


class DeviceSlots(SlotPools):
    """A slot is a copy of what is packed in RAM, as large as that; it is zeroed when it falls free."""

    def __init__(self, layout: FactorLayout, table: SlotTable, device: str) -> None:
        super().__init__(layout, table.count)
        self._factors = layout
        self._table = table
        self._device = device
        self._filled: dict[Place, LoraWeights] = {}
        self._composed: dict[Composition, LoraWeights] = {}

    @property
    def bytes(self) -> int:
        """What the slots take in the device's memory. Any thread."""
        filled = tuple(self._filled.values())
        return sum(factor.nbytes for one in filled for pair in one.factors.values() for factor in pair)

    @contextmanager
    def prepare(self, adapter: Cid, bucket: int) -> Iterator[None]:
        """Nothing to find ahead: a slot takes memory while it is filled."""
        yield

    @torch.inference_mode()
    def apply(self, moves: Iterable[Move], adapters: Mapping[Cid, LoadedAdapter]) -> None:
        """Do what the table decided; `adapters` are those in RAM."""
        for move in moves:
            if move.adapter is None:
                for pair in self._filled.pop(move.place).factors.values():
                    for factor in pair:
                        factor.zero_()
            else:
                self._fill_from(move.place, adapters[move.adapter])

    def weights_of(self, composition: Composition) -> LoraWeights | None:
        """Of adapters that hold slots; the same object while any request uses it. None for the plain base."""
        if composition and composition not in self._composed:
            parts = [(self._filled[self._table.place_of(one.adapter)], one.weight_ppm) for one in composition]
            self._composed[composition] = compose(parts)
        return self._composed.get(composition)

    def forget_unused(self, used: Collection[Composition]) -> None:
        """Let go of compositions that nothing runs under."""
        self._composed = {c: weights for c, weights in self._composed.items() if c in used}

    def check_integrity(self, taken: Iterable[Place]) -> None:
        """Raises AssertionError unless exactly the `taken` slots are filled."""
        if set(taken) != self._filled.keys():
            raise AssertionError("other slots are filled than the table says")

    def _fill_from(self, place: Place, adapter: LoadedAdapter) -> None:
        started = time.perf_counter_ns()
        copy = torch.empty_like(adapter.packed, device=self._device).copy_(adapter.packed)
        self._filled[place] = self._factors.unpack(copy, adapter.source)
        self.fills += 1
        self.fill_ns += time.perf_counter_ns() - started
