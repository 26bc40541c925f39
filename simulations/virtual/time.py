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

from ...protocol.errors import LocalProtocolError
from .kernel import TrioKernel, trio_us

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


async def drive(kernel: TrioKernel) -> None:
    """Run what is planned when its time comes; for ever."""
    while True:
        with trio.move_on_at(kernel.listen()):
            await kernel.news.wait()
        kernel.run(trio_us())
