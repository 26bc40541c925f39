"""Which adapter lies in which slot: a table, without a tensor in sight.

Rules of this file:
- An adapter is given a slot when a sequence that names it starts to run, and keeps it as long as one runs. So
  at most `count` different adapters run at once; the least recently used idle one gives way to another.
- Each rank bucket has slots 1 … `count` of its own, the lowest free one first, but no more than `count` of
  all buckets together are taken.
- The table only decides. What is to be zeroed and filled, in this order, waits in `take_moves` for whoever
  has the memory.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from ....protocol.ids import Cid

NO_SLOT = 0
"""Slot 0 of every bucket holds zeros and is never given out."""


@dataclass(frozen=True, slots=True)
class Place:
    """A slot of a rank bucket."""

    bucket: int
    slot: int


@dataclass(frozen=True, slots=True)
class Move:
    """Fill `place` with `adapter`, or, where that is None, with zeros."""

    place: Place
    adapter: Cid | None


class SlotTable:
    """Slots for `count` adapters at once."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.evictions = 0
        self._bucket_of: dict[Cid, int] = {}
        self._places: OrderedDict[Cid, Place] = OrderedDict()  # least recently used first
        self._holders: Counter[Cid] = Counter()
        self._free: dict[int, list[int]] = {}
        self._moves: list[Move] = []

    @property
    def held(self) -> AbstractSet[Cid]:
        """The adapters that running sequences use."""
        return self._holders.keys()

    @property
    def placed(self) -> tuple[Cid, ...]:
        """The adapters that have a slot, the least recently used first. Any thread."""
        return tuple(self._places)

    def place_of(self, adapter: Cid) -> Place:
        """Where an adapter lies that a running sequence uses."""
        return self._places[adapter]

    def add(self, adapter: Cid, bucket: int) -> None:
        """From now on it may be given slots of this bucket."""
        self._bucket_of[adapter] = bucket

    def forget(self, adapter: Cid) -> None:
        """It is gone; nothing that runs may use it."""
        if adapter in self._places:
            self._evict(adapter)
        self._bucket_of.pop(adapter, None)

    # ---- for sequences that start and end

    def can_hold(self, adapters: AbstractSet[Cid]) -> bool:
        """Whether all of these have or can have slots beside those in use."""
        return len(self._holders.keys() | adapters) <= self.count

    def hold(self, adapters: AbstractSet[Cid]) -> None:
        """Give each of these a slot, for one more sequence; `can_hold` must say so."""
        self._holders.update(adapters)
        for adapter in adapters:
            if adapter not in self._places:
                self._place(adapter)
            self._places.move_to_end(adapter)

    def release(self, adapters: AbstractSet[Cid]) -> None:
        """One sequence that held these has ended. They stay where they are until a slot is needed."""
        for adapter in adapters:
            self._holders[adapter] -= 1
            if not self._holders[adapter]:
                del self._holders[adapter]
                self._places.move_to_end(adapter)

    def in_the_way(self, adapters: AbstractSet[Cid]) -> frozenset[Cid]:
        """Held adapters that must end before all of these can be held: those that fewest sequences use."""
        missing = len(self._holders.keys() | adapters) - self.count
        others = [adapter for adapter in self._places if adapter in self.held and adapter not in adapters]
        others.sort(key=self._holders.__getitem__)
        return frozenset(others[: max(0, missing)])

    def take_moves(self) -> list[Move]:
        """What is to be done to the memory since the last call."""
        moves, self._moves = self._moves, []
        return moves

    def check_integrity(self, running: Iterable[Iterable[Cid]]) -> None:
        """Raises AssertionError unless exactly the adapters of `running` are held, each in a slot of its
        own.
        """
        if Counter(adapter for adapters in running for adapter in adapters) != self._holders:
            raise AssertionError("slots are held by other sequences than those that run")
        if not self.held <= self._places.keys() <= self._bucket_of.keys():
            raise AssertionError("an adapter is held without a slot, or has one without being here")
        if len(self._places) > self.count:
            raise AssertionError(f"{len(self._places)} adapters lie in {self.count} slots")
        for bucket, free in self._free.items():
            taken = [place.slot for place in self._places.values() if place.bucket == bucket]
            if sorted(free + taken) != list(range(1, self.count + 1)):
                raise AssertionError(f"a slot of rank {bucket} is lost or taken twice")
        if any(self._bucket_of[adapter] != place.bucket for adapter, place in self._places.items()):
            raise AssertionError("an adapter lies in another bucket than its own")

    def _place(self, adapter: Cid) -> None:
        if len(self._places) >= self.count:
            self._evict(next(one for one in self._places if one not in self._holders))
        bucket = self._bucket_of[adapter]
        free = self._free.setdefault(bucket, list(range(1, self.count + 1)))
        place = self._places[adapter] = Place(bucket, heapq.heappop(free))
        self._moves.append(Move(place, adapter))

    def _evict(self, adapter: Cid) -> None:
        place = self._places.pop(adapter)
        heapq.heappush(self._free[place.bucket], place.slot)
        self._moves.append(Move(place, None))
        self.evictions += 1
