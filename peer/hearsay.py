"""What did not get here yet: gossip loses messages, what was announced a moment ago is on its way, and a peer
that has just joined has not met everybody.

Rules of this file: a name is unknown only when all connected peers were asked what they know; nobody has some
content only when a newcomer had a moment to meet who has it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from ..protocol.errors import CommonloreError, NotFound, Unreachable

MOMENT_S, POLL_S = 3.0, 0.05
LEARNING_S = 0.5
"""How long what others told takes until it is known here."""

AskAround = Callable[[], Awaitable[None]]
"""Takes what every connected peer knows."""
T = TypeVar("T")


async def find_heard(look: Callable[[], T], ask_around: AskAround) -> T:
    """What `look` finds, now or once all were asked. Raises what it raises at last."""
    if _finds_nothing(look):
        with trio.CancelScope() as patience:  # without end while the others are asked
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_ask, ask_around, patience)
                while _finds_nothing(look):  # noqa: ASYNC110 - who learns a name tells nobody
                    await trio.sleep(POLL_S)
                nursery.cancel_scope.cancel()
    return look()


async def once_met(read: Callable[[], Awaitable[T]]) -> T:
    """As `read`, which fetches from others; those who have it may not have been met a moment ago."""
    patient_until = trio.current_time() + MOMENT_S
    while True:
        try:
            return await read()
        except (NotFound, Unreachable):
            if trio.current_time() >= patient_until:
                raise
        await trio.sleep(POLL_S)


async def _ask(ask_around: AskAround, patience: trio.CancelScope) -> None:
    await ask_around()
    patience.deadline = trio.current_time() + LEARNING_S


def _finds_nothing(look: Callable[[], object]) -> bool:
    try:
        look()
    except NotFound:
        return True
    except CommonloreError:
        pass  # it is known, and wrong
    return False
