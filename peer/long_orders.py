"""An order that takes long, and its updates for whoever gave it.

The work runs in the node's nursery, so that whoever iterates may leave at any point, as an HTTP client does;
leaving stops it. What ends the work is raised where the updates are read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

UPDATES = 64
T = TypeVar("T")
Tell = Callable[[T], Awaitable[None]]
"""Gives the next update; waits while nobody reads."""


@asynccontextmanager
async def open_order(
    nursery: trio.Nursery, work: Callable[[Tell[T]], Awaitable[None]]
) -> AsyncIterator[AsyncIterator[T]]:
    """Start `work` and give what it tells, until the block is left. Iterating raises what ended it."""
    send, receive = trio.open_memory_channel[T](UPDATES)
    outcome = _Outcome()
    scope, ended = trio.CancelScope(), trio.Event()

    async def run() -> None:
        try:
            with send, scope, outcome:
                await work(send.send)
        finally:
            ended.set()

    nursery.start_soon(run)
    try:
        yield _updates(receive, outcome)
    finally:
        scope.cancel()
        with trio.CancelScope(shield=True):
            await ended.wait()


async def _updates(receive: trio.MemoryReceiveChannel[T], outcome: _Outcome) -> AsyncIterator[T]:
    async for update in receive:
        yield update
    if outcome.error is not None:
        raise outcome.error


class _Outcome:
    """Keeps what ended the work for whoever reads the updates."""

    error: Exception | None = None

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        self.error = error if isinstance(error, Exception) else None
        return self.error is not None
