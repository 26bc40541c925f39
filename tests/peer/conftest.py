"""Async tests of this folder run under trio."""

import inspect
from functools import partial

import pytest
import trio


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test function in `trio.run`; leave the others to pytest."""
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(function):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    trio.run(partial(function, **{name: pyfuncitem.funcargs[name] for name in names}))
    return True
