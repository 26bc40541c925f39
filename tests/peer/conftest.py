"""Async tests of this folder run under trio."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

if TYPE_CHECKING:
    from commonlore.peer.host import Host


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test function in `trio.run`; leave the others to pytest."""
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(function):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    trio.run(partial(function, **{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@asynccontextmanager
async def open_hosts(count: int, connected: bool = True) -> AsyncIterator[list["Host"]]:
    """Hosts on loopback with fixed keys; unless told otherwise the first is connected to every other."""
    from commonlore.peer.host import (
        HostConfig,
        open_host,
    )  # libp2p takes half a second: only where it is needed

    async with AsyncExitStack() as stack:
        hosts = [
            await stack.enter_async_context(open_host(HostConfig(bytes([n + 1]) * 32))) for n in range(count)
        ]
        for host in hosts[1:] if connected else []:
            await host.connect(hosts[0].addresses[0])
        yield hosts


async def wait_until(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Return once `condition()` holds; TooSlowError when it never does."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - conditions of libp2p raise no event
            await trio.sleep(0.005)


@pytest.fixture
def hosts() -> Callable[..., AbstractAsyncContextManager[list["Host"]]]:
    return open_hosts


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    return wait_until
