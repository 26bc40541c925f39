"""Virtual time for trio: hours pass in seconds, and a seed fixes the order in which tasks run.

trio shuffles the tasks that are ready at once. A private switch of trio makes that shuffle follow its own
generator, which can be seeded; trio's plugin for Hypothesis uses the same. This file alone touches it, and
`is_deterministic` says whether it still does what it should.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio
from trio.testing import MockClock

from ..protocol.errors import LocalProtocolError
from .kernel import Act, Kernel

T = TypeVar("T")


def run_virtually(main: Callable[[], Awaitable[T]], seed: int) -> T:
    """`trio.run(main)` in virtual time from 0, with everything trio chooses at random fixed by the seed.

    Time jumps on when every task waits; so nothing in `main` may wait for threads, sockets or processes.
    Raises LocalProtocolError where this trio has no such switch.
    """
    run: Any = trio._core._run
    if not hasattr(run, "_ALLOW_DETERMINISTIC_SCHEDULING") or not hasattr(run, "_r"):
        raise LocalProtocolError(
            f"trio {trio.__version__} cannot be made deterministic; use trio 0.30 to 0.35"
        )
    before, state = run._ALLOW_DETERMINISTIC_SCHEDULING, run._r.getstate()
    run._ALLOW_DETERMINISTIC_SCHEDULING = True
    run._r.seed(seed)
    try:
        return trio.run(main, clock=MockClock(autojump_threshold=0))
    finally:
        run._ALLOW_DETERMINISTIC_SCHEDULING = before
        run._r.setstate(state)


def is_deterministic(seed: int = 1) -> bool:
    """Whether the switch works: tasks that are ready together run in one order for a seed, and in several
    orders for several seeds."""
    orders = [run_virtually(_order_of_many, each) for each in (seed, seed, *range(seed + 1, seed + 5))]
    return orders[0] == orders[1] and len({tuple(order) for order in orders}) > 1


async def _order_of_many() -> list[int]:
    order: list[int] = []

    async def note(number: int) -> None:
        await trio.sleep(1)
        order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(16):
            nursery.start_soon(note, number)
    return order


class TrioKernel(Kernel):
    """The kernel's calls in trio's virtual time: what is planned here runs between trio's tasks."""

    def __init__(self) -> None:
        super().__init__()
        self._news = trio.Event()
        self._next_us = 1 << 62

    def at(self, time_us: int, act: Act, *arguments: Any) -> None:
        """Call `act(*arguments)` at `time_us`, or now if that has passed."""
        self.now_us = max(self.now_us, _trio_us())
        super().at(time_us, act, *arguments)
        if time_us < self._next_us:
            self._news.set()

    def after(self, delay_us: int, act: Act, *arguments: Any) -> None:
        """Call `act(*arguments)` in `delay_us`."""
        self.at(_trio_us() + delay_us, act, *arguments)

    def time_us(self) -> int:
        """The present, for tasks; `now_us` is that of the event that runs."""
        self.now_us = max(self.now_us, _trio_us())
        return self.now_us

    async def drive(self) -> None:
        """Run what is planned when its time comes; for ever."""
        while True:
            self._news = trio.Event()
            next_us = self.next_us()
            self._next_us = 1 << 62 if next_us is None else next_us
            with trio.move_on_at(float("inf") if next_us is None else next_us / 1e6):
                await self._news.wait()
            self.run(_trio_us())


def _trio_us() -> int:
    return round(trio.current_time() * 1e6)
