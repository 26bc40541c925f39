"""One due time per key, on a heap with lazy deletion; ties run in the order in which they were set."""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
_SLACK = 64


class Timers(Generic[Key]):
    """Due times in milliseconds; setting a key again moves it."""

    def __init__(self) -> None:
        self._due: dict[Key, tuple[int, int, Key]] = {}
        self._heap: list[tuple[int, int, Key]] = []
        self._count = 0
        self._sweep_at = _SLACK
        """The number of the setting that looks whether the heap holds too much that is not due any more."""

    def __len__(self) -> int:
        return len(self._due)

    def set(self, key: Key, due_ms: int) -> None:
        """`key` is due at `due_ms`, and at no other time."""
        self._count = count = self._count + 1
        self._due[key] = entry = (due_ms, count, key)
        heappush(self._heap, entry)
        if count == self._sweep_at:
            self._sweep()

    def _sweep(self) -> None:
        """So the heap holds at most twice what is due, and a little more."""
        if len(self._heap) > 2 * len(self._due):
            self._heap = [*self._due.values()]
            heapify(self._heap)
        self._sweep_at = self._count + max(_SLACK, 2 * len(self._due) - len(self._heap))

    def clear(self, key: Key) -> None:
        """`key` is not due any more."""
        self._due.pop(key, None)

    def due_ms(self, key: Key) -> int:
        """When `key`, which was set, is due."""
        return self._due[key][0]

    def next_ms(self) -> int | None:
        """When something is due next."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now_ms: int) -> list[Key]:
        """The keys due by now, cleared."""
        due: list[Key] = []
        while (next_ms := self.next_ms()) is not None and next_ms <= now_ms:
            key = heappop(self._heap)[2]
            del self._due[key]
            due.append(key)
        return due
