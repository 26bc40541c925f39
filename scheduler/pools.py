"""Sets that can be drawn from in O(1). Their order follows from events, never from hashes."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)
_HALF = (1 << 32) - 1
_FEW = 8
"""So many are looked through rather than looked up: most adapters are held by few, and there are many."""


class Pool(Generic[T]):
    """A set with a fixed order and O(1) add, discard and indexing. `items` is that order: read it only."""

    __slots__ = ("_at", "items")

    def __init__(self) -> None:
        self.items: list[T] = []
        self._at: dict[T, int] | None = None

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> T:
        return self.items[index]

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __contains__(self, item: T) -> bool:
        return item in (self.items if self._at is None else self._at)

    def add(self, item: T) -> None:
        if item in self:
            return
        if self._at is not None:
            self._at[item] = len(self.items)
        self.items.append(item)
        if self._at is None and len(self.items) > _FEW:
            self._at = {each: at for at, each in enumerate(self.items)}

    def discard(self, item: T) -> None:
        """Remove `item`; the last one takes its place."""
        if item not in self:
            return
        at = self.items.index(item) if self._at is None else self._at.pop(item)
        last = self.items.pop()
        if at != len(self.items):
            self.items[at] = last
            if self._at is not None:
                self._at[last] = at

    def pick(self, count: int, bits: int) -> list[T]:
        """At most `count` neighbours, from a place on that 32 random bits choose; all of them, from there on,
        where there are no more. Everybody is as likely."""
        items = self.items
        size = len(items)
        at = (bits & _HALF) * size >> 32
        picked = items[at : at + count]
        if len(picked) < count and at:
            picked += items[: min(at, count - len(picked))]
        return picked
