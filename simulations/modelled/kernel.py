"""A discrete-event kernel: events in order of (time, order in which they were planned).

Time is whole microseconds, so runs repeat exactly. What is called at its time may return a delay: then it is
called again, with the same arguments, so long after. Agents that wait and act in turn need nothing else, a
generator's `__next__` among them, and cost half of what planning anew does.

Events lie in buckets of time, and only the bucket that is running is in order: with 100,000 agents one heap
of everything would spend its time on cache misses. A bucket is sorted when its time comes and walked through
once; what is planned into it meanwhile is put into its place. Buckets are wide at first; one that turns out
too full divides them all, and many that hold little are joined. Nothing is ever removed: an agent that
changes its mind ignores the old event when it comes (see `Alarm`).
"""

from __future__ import annotations

import gc
from bisect import insort
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from heapq import heappop, heappush
from typing import Any

Act = Callable[..., int | None]
Event = tuple[int, int, Act, tuple[Any, ...]]
WIDEST_BITS, NARROWEST_BITS = 22, 6
"""Buckets are 2^22 to 2^6 µs long."""
WANTED = 64
"""So many events are wanted in a bucket; more than twice as many are too many."""


class Kernel:
    """Simulated time and what happens in it."""

    def __init__(self) -> None:
        self.now_us = 0
        self.events = 0
        self._count = 0
        self._counted = self._opened = 0
        """Events that had run when buckets were last judged, and buckets opened since."""
        self._bits = WIDEST_BITS
        self._bucket = -1
        self._present: list[Event] = []
        """What is planned up to the end of the running bucket, in order."""
        self._later: dict[int, list[Event]] = {}
        """What is planned in later buckets, as it was planned."""
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
            insort(self._present, (time_us, count, act, arguments))
        elif number in self._later:
            self._later[number].append((time_us, count, act, arguments))
        else:
            self._later[number] = [(time_us, count, act, arguments)]
            heappush(self._buckets, number)

    def after(self, delay_us: int, act: Act, *arguments: Any) -> None:
        """Call `act(*arguments)` in `delay_us`."""
        self.at(self.now_us + delay_us, act, *arguments)

    def run(self, until_us: int | None = None) -> None:
        """Let time pass until nothing is planned any more, or until `until_us`."""
        last_us = 1 << 62 if until_us is None else until_us
        while (self._present or self._open_next(last_us)) and self._present[0][0] <= last_us:
            self._run_bucket(last_us)
        if until_us is not None:
            self.now_us = max(self.now_us, until_us)

    def next_us(self) -> int | None:
        """When the next event is due; None if none is planned."""
        if not self._present and not self._open_next(1 << 62):
            return None
        return self._present[0][0]

    def _run_bucket(self, last_us: int) -> None:
        """What is due in the running bucket. The list may grow behind the place that is being run."""
        present, later, bits, bucket, done = self._present, self._later, self._bits, self._bucket, 0
        try:
            for time_us, _, act, arguments in present:
                if time_us > last_us:
                    break
                self.now_us = time_us
                done += 1
                again_us = act(*arguments)
                if again_us is None:
                    continue
                time_us += again_us  # as `at` does, without the call
                self._count = count = self._count + 1
                number = time_us >> bits
                if number in later:
                    later[number].append((time_us, count, act, arguments))
                elif number > bucket:
                    later[number] = [(time_us, count, act, arguments)]
                    heappush(self._buckets, number)
                else:
                    insort(present, (time_us, count, act, arguments))
        finally:
            del present[:done]
            self.events += done

    def _open_next(self, last_us: int) -> bool:
        """Make the next bucket the running one; False if there is none that begins by `last_us`."""
        if not self._buckets or self._buckets[0] << self._bits > last_us:
            return False
        if len(self._later[self._buckets[0]]) > 2 * WANTED:
            self._divide(self._later[self._buckets[0]])
        elif self.events - self._counted > self._count - self.events:
            self._widen()
        if self._buckets[0] << self._bits > last_us:
            return False
        self._opened += 1
        self._bucket = heappop(self._buckets)
        self._present = self._later.pop(self._bucket)
        self._present.sort()
        return True

    def _divide(self, bucket: list[Event]) -> None:
        """Make buckets shorter, so that this one holds about as many times as are wanted."""
        times = len({event[0] for event in bucket})
        if times > 2 * WANTED:
            self._set_bits(max(NARROWEST_BITS, self._bits - (times // WANTED).bit_length()))

    def _widen(self) -> None:
        """As many events have run as are planned: make buckets longer if they held few, at no more cost than
        one step an event."""
        held = (self.events - self._counted) // max(1, self._opened)
        self._counted, self._opened = self.events, 0
        if held < WANTED // 4:
            self._set_bits(min(WIDEST_BITS, self._bits + (WANTED // max(1, held)).bit_length() - 1))

    def _set_bits(self, bits: int) -> None:
        if bits == self._bits:
            return
        end_us = self._bucket + 1 << self._bits
        self._bits, self._bucket = bits, (end_us >> bits) - 1
        parts: dict[int, list[Event]] = {}
        for bucket in self._later.values():
            for event in bucket:
                number = event[0] >> bits
                if number in parts:
                    parts[number].append(event)
                else:
                    parts[number] = [event]
        self._later = parts
        self._buckets = sorted(parts)


@contextmanager
def rare_collection() -> Iterator[None]:
    """Look for garbage in cycles rarely, and not among what is there already: a simulation makes none, and
    has much to look through. What is there at the end counts as old, unseen."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(2_000_000, 50, 1_000)
    try:
        yield
    finally:
        gc.freeze()
        gc.unfreeze()
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
