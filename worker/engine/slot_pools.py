"""The memory of the slots: one pool a rank bucket, filled and zeroed as the table says.

Rules of this file:
- A pool comes into being with the first adapter of its bucket and keeps its address for the engine's life.
  Its memory costs nothing until it is first written, and that first time costs many times a copy. So whoever
  reads an adapter writes one slot ahead (`prepare`), lest a step wait for the kernel to find memory.
- What is written ahead is no more than can be filled at once, all buckets together, and one slot more of a
  bucket all of whose slots are full. Written memory stays: a slot that falls free is soon filled again.
- Filling is one copy of the packed adapter; what leaves a slot is overwritten with zeros at once. On a GPU
  both are queued before the step that needs them, and `fill_ns` is the time to queue them.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...protocol.errors import Refused
from ...protocol.ids import Cid
from ...protocol.messages import RefusalCode
from .engine import LoadedAdapter
from .lora_layout import LoraLayout
from .memory import zeros
from .slots import NO_SLOT, Move, Place


@dataclass(slots=True)
class _Pool:
    """`rows` [slots + 1, size]: row s is slot s. The first `written` slots have their memory; more get it
    under `lock`, so that nobody zeroes what another fills.
    """

    rows: Tensor
    written: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def bytes(self) -> int:
        """What it takes. On a GPU all of it is taken at once."""
        return self.rows[0].nbytes * self.written if self.rows.device.type == "cpu" else self.rows.nbytes


class SlotPools:
    """`slots` slots of every bucket that occurs, beside slot 0. `fills` were done in `fill_ns`."""

    def __init__(self, layout: LoraLayout, slots: int) -> None:
        self.fills = 0
        self.fill_ns = 0
        self._layout = layout
        self._slots = slots
        self._pools: dict[int, _Pool] = {}
        self._prepared: set[Cid] = set()
        self._preparing = threading.Lock()
        self._changed: dict[Place, frozenset[str]] = {}
        self._fillings: Counter[Place] = Counter()

    @property
    def bytes(self) -> int:
        """What the slots take in memory. Any thread."""
        return sum(pool.bytes for pool in tuple(self._pools.values()))

    def prepare(self, adapter: Cid, bucket: int) -> None:
        """Have memory for one more adapter of this bucket, before it is first installed. Any thread.

        Slots are given out from the first on, so the one that is written here is nobody's yet.

        Raises Refused(busy) when a pool finds no memory.
        """
        with self._preparing:
            if bucket not in self._pools:
                self._pools[bucket] = _Pool(self._new_pool(bucket))
            pool = self._pools[bucket]
            with pool.lock:
                if adapter not in self._prepared and self._may_write_ahead(bucket, pool):
                    pool.rows[pool.written + 1].zero_()
                    pool.written += 1
                    self._prepared.add(adapter)

    def _may_write_ahead(self, bucket: int, pool: _Pool) -> bool:
        """Whether one more slot of this bucket may be filled before another falls free."""
        filled = sum(place.bucket == bucket for place in tuple(self._changed))
        written = sum(one.written for one in self._pools.values())
        return pool.written < self._slots and (written < self._slots or filled >= pool.written)

    def pool(self, bucket: int) -> Tensor:
        """[slots + 1, size]; row s is slot s. It stays where it is."""
        return self._pools[bucket].rows

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
                self.pool(move.place.bucket)[move.place.slot].zero_()
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
            if any(place.bucket == bucket and place.slot > pool.written for place in taken):
                raise AssertionError(f"a slot of rank {bucket} is filled that might be written ahead")
            for slot in {NO_SLOT, *(place.slot for place in self._fillings if place.bucket == bucket)}:
                if Place(bucket, slot) not in taken and bool(torch.any(pool.rows[slot] != 0)):
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
        pool = self._pools[place.bucket]
        if place.slot > pool.written:
            with pool.lock:
                pool.written = max(pool.written, place.slot)
        pool.rows[place.slot].copy_(adapter.packed, non_blocking=True)
        self._changed[place] = frozenset(adapter.source.targets)
        self._fillings[place] += 1
