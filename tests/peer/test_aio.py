"""The bridge: results, errors and cancellation cross it in both directions, and it closes cleanly."""

import asyncio
import threading
import traceback

import pytest
import trio

from commonlore.peer.aio import AioCancelled, open_aio
from commonlore.protocol.errors import LocalProtocolError


async def test_result_and_arguments():
    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    async with open_aio() as aio:
        assert await aio.call(add, 2, 3) == 5


async def test_many_callers_share_one_loop():
    gathered = []

    async def meet(barrier: asyncio.Barrier) -> None:
        await barrier.wait()

    async def barrier() -> asyncio.Barrier:
        return asyncio.Barrier(20)

    async with open_aio() as aio:
        shared = await aio.call(barrier)

        async def one() -> None:
            await aio.call(meet, shared)
            gathered.append(1)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(one)
    assert len(gathered) == 20


async def test_exception_crosses_with_its_traceback():
    async def fails_deep_inside() -> None:
        raise KeyError("lost")

    async with open_aio() as aio:
        with pytest.raises(KeyError) as caught:
            await aio.call(fails_deep_inside)
    assert "fails_deep_inside" in "".join(traceback.format_tb(caught.value.__traceback__))


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
async def test_nothing_that_a_task_raises_ends_the_loop(error):
    async def fails() -> None:
        raise error

    async def fine() -> str:
        return "alive"

    async with open_aio() as aio:
        with pytest.raises(type(error)):
            await aio.call(fails)
        assert await aio.call(fine) == "alive"


async def test_trio_cancellation_waits_for_the_asyncio_task_to_end():
    steps = []

    async def work(started: trio.Event, token: trio.lowlevel.TrioToken) -> None:
        token.run_sync_soon(started.set)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            steps.append("cleaned up")
            raise

    async with open_aio() as aio:
        started = trio.Event()
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(aio.call, work, started, trio.lowlevel.current_trio_token())
                await started.wait()
                nursery.cancel_scope.cancel()
        assert steps == ["cleaned up"]


async def test_a_result_that_beats_the_cancellation_is_not_lost():
    async def stubborn(started: trio.Event, token: trio.lowlevel.TrioToken) -> str:
        token.run_sync_soon(started.set)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done all the same"
        return ""

    results = []
    async with open_aio() as aio:
        started = trio.Event()

        async def caller() -> None:
            results.append(await aio.call(stubborn, started, trio.lowlevel.current_trio_token()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller)
            await started.wait()
            nursery.cancel_scope.cancel()
    assert results == ["done all the same"]


async def test_a_cancelled_caller_does_not_start_work():
    ran = []

    async def work() -> None:
        ran.append(1)

    async with open_aio() as aio:
        with trio.CancelScope() as scope:
            scope.cancel()
            await aio.call(work)
        assert scope.cancelled_caught
    assert not ran


async def test_asyncio_cancellation_reaches_trio_as_an_error():
    async def cancels_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.Event().wait()

    async with open_aio() as aio:
        with pytest.raises(AioCancelled):
            await aio.call(cancels_itself)


async def test_closing_ends_what_still_runs_and_the_thread():
    before = threading.active_count()
    outcomes = []

    async def forever(started: trio.Event, token: trio.lowlevel.TrioToken) -> None:
        token.run_sync_soon(started.set)
        await asyncio.Event().wait()

    async with trio.open_nursery() as nursery, open_aio() as aio:
        started = trio.Event()

        async def caller() -> None:
            try:
                await aio.call(forever, started, trio.lowlevel.current_trio_token())
            except AioCancelled:
                outcomes.append("told")

        nursery.start_soon(caller)
        await started.wait()
    assert outcomes == ["told"]
    assert "asyncio" not in {thread.name for thread in threading.enumerate()}
    assert threading.active_count() <= before + 1  # trio keeps an idle worker thread
    with pytest.raises(LocalProtocolError, match="closed"):
        await aio.call(asyncio.sleep, 0)
