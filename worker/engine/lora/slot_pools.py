"""The memory of the slots: one pool a rank bucket, filled and zeroed as the table says.

Rules of this file:
- A pool comes into being with the first adapter of its bucket and keeps its address for the engine's life.
  Its memory is the kernel's to find when it is first written, and that takes many times as long as a copy,
  above all in a virtual machine. So a thread beside has memory found for a bucket's first adapter while that
  is read, and after every one for the next (`prepare`): neither a step nor the next adapter waits for it.
- What is found ahead is no more than can be filled at once, all buckets together, and one slot more of a
  bucket all of whose slots are full. It stays: a slot that falls free is soon filled again.
- Filling is one copy of the packed adapter; what leaves a slot is overwritten with zeros at once. On a GPU
  both are queued before the step that needs them, and `fill_ns` is the time to queue them.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ....protocol.errors import Refused
from ....protocol.ids import Cid
from ....protocol.inference.messages import RefusalCode
from ..batching.slots import NO_SLOT, Move, Place
from ..engine import LoadedAdapter
from ..memory.streamed import find_ahead, zeros
from .layout import LoraLayout


@dataclass(slots=True)
class _Pool:
    """`rows` [slots + 1, size]: row s is slot s. `ahead` are the findings of memory for slots 1, 2, 3 ...,
    `owners` the adapters that they were for, in this order; slots up to `filled` were filled once.
    """

    rows: Tensor
    ahead: list[Future[None]] = field(default_factory=list)
    owners: list[Cid] = field(default_factory=list)
    filled: int = 0

    @property
    def backed(self) -> int:
        """The first so many slots have memory, or are about to."""
        return max(len(self.ahead), self.filled)

    @property
    def bytes(self) -> int:
        """What it takes. On a GPU all of it is taken at once."""
        return self.rows[0].nbytes * self.backed if self.rows.device.type == "cpu" else self.rows.nbytes


class SlotPools:
    """`slots` slots of every bucket that occurs, beside slot 0. `fills` were done in `fill_ns`."""

    def __init__(self, layout: LoraLayout, slots: int) -> None:
        self.fills = 0
        self.fill_ns = 0
        self._layout = layout
        self._slots = slots
        self._pools: dict[int, _Pool] = {}
        self._preparing = threading.Lock()
        self._changed: dict[Place, frozenset[str]] = {}
        self._fillings: Counter[Place] = Counter()

    @property
    def bytes(self) -> int:
        """What the slots take in memory. Any thread."""
        return sum(pool.bytes for pool in tuple(self._pools.values()))

    @contextmanager
    def prepare(self, adapter: Cid, bucket: int) -> Iterator[None]:
        """While an adapter of this bucket is read: have memory for its slot, before it is first installed.

        It is there when the block ends. Slots are given out from the first on. Any thread.

        Raises Refused(busy) when a pool finds no memory.
        """
        with self._preparing:
            if bucket not in self._pools:
                self._pools[bucket] = _Pool(self._new_pool(bucket))
            pool = self._pools[bucket]
            own = self._own(adapter, bucket, pool)
        try:
            yield
        except BaseException:
            self._give_back(adapter, own, pool)
            raise
        if own is not None:
            own.result()
        with self._preparing:
            self._find_next(bucket, pool)

    def _own(self, adapter: Cid, bucket: int, pool: _Pool) -> Future[None] | None:
        """Memory for the slot of an adapter that was not read before."""
        if adapter in pool.owners:
            return None
        self._find_next(bucket, pool)
        if len(pool.owners) == len(pool.ahead):
            return None
        pool.owners.append(adapter)
        return pool.ahead[len(pool.owners) - 1]

    def _give_back(self, adapter: Cid, own: Future[None] | None, pool: _Pool) -> None:
        """It could not be read and needs no slot: the next one has what was found for it."""
        if own is not None:
            with self._preparing:
                pool.owners.remove(adapter)

    def _find_next(self, bucket: int, pool: _Pool) -> None:
        """For the adapter after all that were read, unless it was found already."""
        if len(pool.owners) == len(pool.ahead) and self._may_find(bucket, pool):
            pool.ahead.append(find_ahead(pool.rows[len(pool.ahead) + 1]))

    def _may_find(self, bucket: int, pool: _Pool) -> bool:
        """Whether one more slot of this bucket may be filled before another falls free."""
        filled = sum(place.bucket == bucket for place in tuple(self._changed))
        backed = sum(one.backed for one in self._pools.values())
        return pool.backed < self._slots and (backed < self._slots or filled >= pool.backed)

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
            if any(place.bucket == bucket and place.slot > pool.filled for place in taken):
                raise AssertionError(f"a slot of rank {bucket} is filled that is not counted")
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
        pool.filled = max(pool.filled, place.slot)
        pool.rows[place.slot].copy_(adapter.packed, non_blocking=True)
        self._changed[place] = frozenset(adapter.source.targets)
        self._fillings[place] += 1
