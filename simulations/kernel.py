"""A discrete-event kernel: events in order of (time, order in which they were planned).

Time is whole microseconds, so runs repeat exactly.

Events lie in buckets of time, and only the bucket that is running is kept in full order: with 100,000 agents
one heap of everything would spend its time on cache misses. Buckets are wide at first; one that turns out too
full halves them all, again and again. Nothing is ever removed: an agent that changes its mind ignores the old
event when it comes (see `Alarm`).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from heapq import heapify, heappop, heappush
from typing import Any

Act = Callable[..., None]
Event = tuple[int, int, Act, tuple[Any, ...]]
WIDEST_BITS, NARROWEST_BITS = 22, 6
"""Buckets are 2^22 to 2^6 µs long."""
FULL = 2_048
"""Events of a bucket beyond which buckets are made narrower."""


class Kernel:
    """Simulated time and what happens in it."""

    def __init__(self) -> None:
        self.now_us = 0
        self.events = 0
        self._count = 0
        self._bits = WIDEST_BITS
        self._bucket = 0
        self._present: list[Event] = []
        """What is planned up to the end of the running bucket, a heap."""
        self._later: dict[int, list[Event]] = {}
        """What is planned in later buckets, unordered."""
        self._buckets: list[int] = []
        """The numbers of the later buckets, a heap."""

    @property
    def now_ms(self) -> int:
        """The scheduler's clock: whole milliseconds, rounded down."""
        return self.now_us // 1000

    def at(self, time_us: int, act: Act, *arguments: Any) -> None:
        """Call `act(*arguments)` at `time_us`, or now if that has passed."""
        if time_us < self.now_us:
            time_us = self.now_us
        self._count = count = self._count + 1
        number = time_us >> self._bits
        if number <= self._bucket:
            heappush(self._present, (time_us, count, act, arguments))
            return
        bucket = self._later.get(number)
        if bucket is None:
            self._later[number] = [(time_us, count, act, arguments)]
            heappush(self._buckets, number)
        else:
            bucket.append((time_us, count, act, arguments))

    def after(self, delay_us: int, act: Act, *arguments: Any) -> None:
        """Call `act(*arguments)` in `delay_us`."""
        self.at(self.now_us + delay_us, act, *arguments)

    def run(self, until_us: int | None = None) -> None:
        """Let time pass until nothing is planned any more, or until `until_us`."""
        last_us = 1 << 62 if until_us is None else until_us
        present, count = self._present, 0
        while present or self._open_next(last_us):
            if present[0][0] > last_us:
                break
            self.now_us, _, act, arguments = heappop(present)
            count += 1
            act(*arguments)
        self.events += count
        if until_us is not None:
            self.now_us = max(self.now_us, until_us)

    def next_us(self) -> int | None:
        """When the next event is due; None if none is planned."""
        if not self._present and not self._open_next(1 << 62):
            return None
        return self._present[0][0]

    def _open_next(self, last_us: int) -> bool:
        """Make the next bucket the running one; False if there is none that begins by `last_us`."""
        if not self._buckets or self._buckets[0] << self._bits > last_us:
            return False
        while len(self._later[self._buckets[0]]) > FULL and self._bits > NARROWEST_BITS:
            self._narrow()
        if self._buckets[0] << self._bits > last_us:
            return False
        self._bucket = heappop(self._buckets)
        self._present.extend(self._later.pop(self._bucket))
        heapify(self._present)
        return True

    def _narrow(self) -> None:
        """Halve the buckets, but for the running one, which is empty."""
        self._bits -= 1
        self._bucket = 2 * self._bucket + 1
        halves: dict[int, list[Event]] = {}
        for bucket in self._later.values():
            for event in bucket:
                halves.setdefault(event[0] >> self._bits, []).append(event)
        self._later = halves
        self._buckets = sorted(halves)


@contextmanager
def rare_collection() -> Iterator[None]:
    """Look for garbage in cycles rarely: a simulation makes none, and has much to look through."""
    before = gc.get_threshold()
    gc.set_threshold(500_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


class Alarm:
    """One event that can be moved or taken back."""

    __slots__ = ("_act", "_due_us", "_kernel")

    def __init__(self, kernel: Kernel, act: Callable[[], None]) -> None:
        self._kernel = kernel
        self._act = act
        self._due_us = -1

    def set(self, time_us: int) -> None:
        """Ring at `time_us`, and not when it was set before."""
        due_us = max(time_us, self._kernel.now_us)
        if due_us != self._due_us:
            self._due_us = due_us
            self._kernel.at(due_us, self._ring, due_us)

    def clear(self) -> None:
        """Do not ring."""
        self._due_us = -1

    def _ring(self, due_us: int) -> None:
        if due_us == self._due_us:
            self._due_us = -1
            self._act()
