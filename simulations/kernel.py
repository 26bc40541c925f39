"""A discrete-event kernel: a heap of (time, order, what to do).

Time is whole microseconds, so runs repeat exactly.

Events of one time run in the order in which they were planned. Nothing is ever removed from the heap: an
agent that changes its mind ignores the old event when it comes (see `Alarm`).
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

Act = Callable[..., None]


class Kernel:
    """Simulated time and what happens in it."""

    def __init__(self) -> None:
        self.now_us = 0
        self.events = 0
        self._planned: list[tuple[int, int, Act, tuple[Any, ...]]] = []
        self._count = 0

    @property
    def now_ms(self) -> int:
        """The scheduler's clock: whole milliseconds, rounded down."""
        return self.now_us // 1000

    def at(self, time_us: int, act: Act, *arguments: Any) -> None:
        """Call `act(*arguments)` at `time_us`, or now if that has passed."""
        self._count += 1
        heappush(self._planned, (max(time_us, self.now_us), self._count, act, arguments))

    def after(self, delay_us: int, act: Act, *arguments: Any) -> None:
        """Call `act(*arguments)` in `delay_us`."""
        self.at(self.now_us + delay_us, act, *arguments)

    def run(self, until_us: int | None = None) -> None:
        """Let time pass until nothing is planned any more, or until `until_us`."""
        planned = self._planned
        while planned and (until_us is None or planned[0][0] <= until_us):
            self.now_us, _, act, arguments = heappop(planned)
            self.events += 1
            act(*arguments)
        if until_us is not None:
            self.now_us = max(self.now_us, until_us)


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
