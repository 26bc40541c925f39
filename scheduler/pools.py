"""Sets that can be drawn from in O(1). Their order follows from events, never from hashes."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from math import gcd
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)
_HALF = (1 << 32) - 1


class Pool(Generic[T]):
    """A set with a fixed order and O(1) add, discard and indexing. `items` is that order: read it only."""

    __slots__ = ("_at", "items")

    def __init__(self) -> None:
        self.items: list[T] = []
        self._at: dict[T, int] = {}

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> T:
        return self.items[index]

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __contains__(self, item: T) -> bool:
        return item in self._at

    def add(self, item: T) -> None:
        if item not in self._at:
            self._at[item] = len(self.items)
            self.items.append(item)

    def discard(self, item: T) -> None:
        """Remove `item`; the last one takes its place."""
        at = self._at.pop(item, None)
        if at is None:
            return
        last = self.items.pop()
        if at != len(self.items):
            self.items[at] = last
            self._at[last] = at

    def pick(self, count: int, bits: int) -> list[T]:
        """At most `count`, all different, by 64 random bits: from a random place on by a random stride; all
        of them, from a random place on, where there are no more."""
        items = self.items
        size = len(items)
        at = (bits & _HALF) * size >> 32
        if size <= count:
            return items[at:] + items[:at]
        stride = 1 + ((bits >> 32) * (size - 1) >> 32)
        if size // gcd(stride, size) < count:
            stride = 1
        if at + (count - 1) * stride < size:
            return items[at : at + count * stride : stride][:count]
        return [items[(at + step * stride) % size] for step in range(count)]
