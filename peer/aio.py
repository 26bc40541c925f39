"""The one bridge from trio to asyncio: a thread with one asyncio loop, for packages that know only asyncio.

Rules of this file:

- `call` returns only when the asyncio task has ended: nothing goes on behind the back of a cancelled caller.
- A cancelled trio caller cancels its asyncio task; one that the asyncio side cancels raises `AioCancelled`.
- Exceptions cross with their tracebacks. Nothing that a task raises can end the loop.
- No trio-asyncio: importing it patches asyncio for the whole process.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, TypeVarTuple, cast

import outcome
import trio

from ..protocol.errors import CommonloreError, LocalProtocolError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class AioCancelled(CommonloreError):
    """The asyncio side cancelled the work that a trio task was waiting for: the bridge is closing."""

    code = "aio_cancelled"


class _Call:
    """One coroutine on its way through the loop, and the trio task that waits for it."""

    def __init__(self, work: Callable[[], Awaitable[Any]]) -> None:
        self.work = work
        self.waiter = trio.lowlevel.current_task()
        self.token = trio.lowlevel.current_trio_token()
        self.raise_cancel: Callable[[], Any] | None = None
        self.task: asyncio.Task[outcome.Outcome[Any]] | None = None

    async def run(self) -> outcome.Outcome[Any]:
        """The work's outcome; even SystemExit is only an outcome, or it would end the loop."""
        try:
            return outcome.Value(await self.work())
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            return outcome.Error(error)

    def start(self) -> None:
        """In the loop's thread."""
        self.task = asyncio.get_running_loop().create_task(self.run())
        self.task.add_done_callback(self.finish)

    def cancel(self) -> None:
        """In the loop's thread, always after `start`."""
        if self.task is not None:
            self.task.cancel()

    def finish(self, task: asyncio.Task[outcome.Outcome[Any]]) -> None:
        """In the loop's thread: hand the outcome to trio."""
        if not task.cancelled():
            self.deliver(task.result())
        elif self.raise_cancel is not None:
            self.deliver(outcome.capture(self.raise_cancel))
        else:
            self.deliver(outcome.Error(AioCancelled("the asyncio side was closed while it worked")))

    def deliver(self, result: outcome.Outcome[Any]) -> None:
        """From any thread."""
        try:
            self.token.run_sync_soon(trio.lowlevel.reschedule, self.waiter, result)
        except trio.RunFinishedError:
            return  # nobody is left to hear it


class AioThread:
    """A running asyncio loop. Make it with `open_aio`."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="asyncio", daemon=True)
        self._ready = threading.Event()

    async def call(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Run `await function(*args)` in the loop and return its result. Raises what it raises."""
        if self._loop is None:
            raise LocalProtocolError("the asyncio thread is closed; keep its `async with open_aio()` open")
        await trio.lowlevel.checkpoint_if_cancelled()
        loop = self._loop
        call = _Call(lambda: function(*args))

        def abort(raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
            call.raise_cancel = raise_cancel
            loop.call_soon_threadsafe(call.cancel)
            return trio.lowlevel.Abort.FAILED

        loop.call_soon_threadsafe(call.start)
        return cast(T, await trio.lowlevel.wait_task_rescheduled(abort))

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._ready.set()
        await self._stop.wait()

    def start(self) -> None:
        """Start the thread; returns when the loop runs."""
        self._thread.start()
        self._ready.wait()

    async def close(self) -> None:
        """Stop the loop: what still runs in it is cancelled and waited for."""
        loop, stop, self._loop = self._loop, self._stop, None
        if loop is not None and stop is not None:
            loop.call_soon_threadsafe(stop.set)
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._thread.join)


@asynccontextmanager
async def open_aio() -> AsyncIterator[AioThread]:
    """An asyncio loop in its own thread, for as long as the block lasts."""
    aio = AioThread()
    aio.start()
    try:
        yield aio
    finally:
        await aio.close()
