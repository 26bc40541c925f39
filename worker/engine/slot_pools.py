"""The memory of the slots: one pool a rank bucket, filled and zeroed as the table says.

Rules of this file:
- A pool comes into being with the first adapter of its bucket and keeps its address for the engine's life.
  Its memory costs nothing until it is first written, and that first time costs many times a copy. So whoever
  reads an adapter writes one slot ahead (`prepare`), and no step waits for the kernel to find memory.
- Filling is one copy of the packed adapter; what leaves a slot is overwritten with zeros at once. On a GPU
  both are queued before the step that needs them, and `fill_ns` is the time to queue them.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ...protocol.errors import Refused
from ...protocol.ids import Cid
from ...protocol.messages import RefusalCode
from .engine import LoadedAdapter
from .lora_layout import LoraLayout
from .memory import zeros
from .slots import NO_SLOT, Move, Place


class SlotPools:
    """`slots` slots of every bucket that occurs, beside slot 0. `fills` were done in `fill_ns`."""

    def __init__(self, layout: LoraLayout, slots: int) -> None:
        self.fills = 0
        self.fill_ns = 0
        self._layout = layout
        self._slots = slots
        self._pools: dict[int, Tensor] = {}
        self._written: Counter[int] = Counter()
        self._preparing = threading.Lock()
        self._changed: dict[Place, frozenset[str]] = {}
        self._fillings: Counter[Place] = Counter()

    def prepare(self, bucket: int) -> None:
        """Have memory for one more adapter of this bucket; before it is installed. Any thread.

        Slots are given out from the first on, so the one that is written here is nobody's yet.

        Raises Refused(busy) when a pool finds no memory.
        """
        with self._preparing:
            if bucket not in self._pools:
                self._pools[bucket] = self._new_pool(bucket)
            if self._written[bucket] < self._slots:
                self._written[bucket] += 1
                self._pools[bucket][self._written[bucket]].zero_()

    def pool(self, bucket: int) -> Tensor:
        """[slots + 1, size]; row s is slot s. It stays where it is."""
        return self._pools[bucket]

    def changed(self, place: Place) -> frozenset[str]:
        """The linears that the adapter in this slot changes."""
        return self._changed[place]

    def filling(self, place: Place) -> int:
        """Another number whenever the slot was filled anew."""
        return self._fillings[place]

    def apply(self, moves: Iterable[Move], adapters: Mapping[Cid, LoadedAdapter]) -> None:
        """Do what the table decided; `adapters` are those in RAM."""
        started = time.perf_counter_ns()
        filled = 0
        for move in moves:
            if move.adapter is None:
                self._pools[move.place.bucket][move.place.slot].zero_()
                self._changed.pop(move.place)
            else:
                self._fill(move.place, adapters[move.adapter])
                filled += 1
        if filled:
            self.fills += filled
            self.fill_ns += time.perf_counter_ns() - started

    def check_integrity(self, taken: Iterable[Place]) -> None:
        """Raises AssertionError unless everything but the `taken` slots is zero."""
        taken = set(taken)
        if taken != self._changed.keys():
            raise AssertionError("other slots are filled than the table says")
        for bucket, pool in self._pools.items():
            for slot in {NO_SLOT, *(place.slot for place in self._fillings if place.bucket == bucket)}:
                if Place(bucket, slot) not in taken and bool(torch.any(pool[slot] != 0)):
                    raise AssertionError(f"slot {slot} of rank {bucket} holds numbers of no adapter")

    @torch.inference_mode(False)  # in whatever mode it is made, it is written in any
    def _new_pool(self, bucket: int) -> Tensor:
        shape = (self._slots + 1, self._layout.size(bucket))
        try:
            return zeros(shape, self._layout.dtype, self._layout.device)
        except MemoryError:
            raise Refused(
                RefusalCode.BUSY, f"no memory for {self._slots} slots of rank {bucket}: run with fewer"
            ) from None

    def _fill(self, place: Place, adapter: LoadedAdapter) -> None:
        self._pools[place.bucket][place.slot].copy_(adapter.packed, non_blocking=True)
        self._changed[place] = frozenset(adapter.source.targets)
        self._fillings[place] += 1
