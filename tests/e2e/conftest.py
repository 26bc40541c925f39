"""Real processes on loopback: a chain, peers with homes of their own, the tiny base in fp32.

Async tests run under trio.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from commonlore.contracts.controls import fund
from commonlore.peer.client import Client
from commonlore.peer.config import Config
from commonlore.peer.gateway.control_client import ControlClient
from commonlore.peer.home import Home
from commonlore.peer.keystore import Keystore
from commonlore.peer.local_network import LocalNetwork, NetworkPlan, PeerPlan, open_network
from commonlore.worker.models.cache import set_name
from commonlore.worker.models.tiny import build_tiny

WORKER = {"roles": ("worker",), "step_tokens": 16, "threads": 1}
CONTRIBUTORS = ("ann", "ben", "cat")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test function in `trio.run`; leave the others to pytest."""
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(function):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    trio.run(partial(function, **{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@dataclass(frozen=True)
class Town:
    """A running network and what tests do with it."""

    network: LocalNetwork
    cache: Path
    folder: Path

    def control(self, name: str) -> ControlClient:
        """Orders to a peer's process."""
        return ControlClient(self.network.home(name))

    def order(self, name: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One order to a peer's process, and its answer."""
        with self.control(name) as control:
            return control.post(path, body)

    def bootstrap(self) -> str:
        """The address of the first peer."""
        return self.network.peers["bootstrap"].ready.address

    def config(self, **settings: Any) -> Config:
        """A client's settings in this network."""
        known: dict[str, Any] = {
            "bootstrap": (self.bootstrap(),),
            "chain_url": self.network.chain.url,
            "deployment": str(self.network.deployment_file),
            "base": "tiny",
            "precision": "fp32",
            "cache_dir": str(self.cache),
        }
        return Config(**known | settings)

    def deposit(self, home: str, amount: int) -> None:
        """Tokens into the escrow of a client's home."""
        owner = Keystore(Home(self.folder / home).create().keys).own().owner
        with self.network.client(owner) as client:
            fund(client.endpoint, owner.address, amount, 10**18)
            client.deposit(amount)

    @asynccontextmanager
    async def client(self, home: str, **settings: Any) -> AsyncIterator[Client]:
        """A client in this process."""
        async with Client.connect(home=self.folder / home, config=self.config(**settings)) as client:
            yield client


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the tiny base under the name `tiny`."""
    folder = tmp_path_factory.mktemp("cache")
    set_name(folder, "tiny", build_tiny(folder).id)
    return folder


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Town]:
    """A bootstrap peer, two workers and a contributor, each a process."""
    settings = {"base": "tiny", "precision": "fp32", "cache_dir": str(cache), "settle_interval_s": 3600}
    peers = (
        PeerPlan("bootstrap", {"roles": ("bootstrap",)}),
        PeerPlan("worker-1", WORKER),
        PeerPlan("worker-2", WORKER),
        PeerPlan("contributor", {"roles": ("contributor",), "threads": 1}),
    )
    with open_network(NetworkPlan(tmp_path_factory.mktemp("net"), peers, settings)) as network:
        yield Town(network, cache, tmp_path_factory.mktemp("clients"))


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    """Wait for something that other processes do."""
    with trio.fail_after(seconds):
        while True:
            met = condition()
            if inspect.isawaitable(met):
                met = await met
            if met:
                return
            await trio.sleep(0.05)


@pytest.fixture(name="until")
def _until() -> Callable[..., Awaitable[None]]:
    return until
