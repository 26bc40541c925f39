"""The event kernel's calls in trio's virtual time; `virtual_time.drive` runs what is planned here."""

from __future__ import annotations

from typing import Any

import trio

from ..modelled.kernel import Act, Kernel

NEVER_US = 1 << 62


class TrioKernel(Kernel):
    """What is planned here runs between trio's tasks. `news` is set when something is due sooner than was
    known."""

    def __init__(self) -> None:
        super().__init__()
        self.news = trio.Event()
        self._next_us = NEVER_US

    def at(self, time_us: int, act: Act, *arguments: Any) -> None:
        """Call `act(*arguments)` at `time_us`, or now if that has passed."""
        self.now_us = max(self.now_us, trio_us())
        super().at(time_us, act, *arguments)
        if time_us < self._next_us:
            self.news.set()

    def after(self, delay_us: int, act: Act, *arguments: Any) -> None:
        """Call `act(*arguments)` in `delay_us`."""
        self.at(trio_us() + delay_us, act, *arguments)

    def time_us(self) -> int:
        """The present, for tasks; `now_us` is that of the event that runs."""
        self.now_us = max(self.now_us, trio_us())
        return self.now_us

    def listen(self) -> float:
        """Wait for news from now on: until which of trio's seconds, at most."""
        self.news = trio.Event()
        next_us = self.next_us()
        self._next_us = NEVER_US if next_us is None else next_us
        return float("inf") if next_us is None else next_us / 1e6


def trio_us() -> int:
    """trio's clock in microseconds."""
    return round(trio.current_time() * 1e6)
