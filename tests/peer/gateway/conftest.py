"""A fake node behind real doors: hypercorn on loopback and on a Unix socket."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from commonlore.peer.config import Config
from commonlore.peer.gateway.control_client import ControlClient
from commonlore.peer.gateway.doors import Doors, open_doors
from commonlore.peer.gateway.fake import FakeNode
from commonlore.peer.gateway.fake_actions import FakeActions
from commonlore.peer.home import Home

PATIENCE_S = 120.0


@dataclass
class Open:
    """A fake node whose doors are open."""

    node: FakeNode
    actions: FakeActions
    doors: Doors

    @property
    def url(self) -> str:
        assert self.doors.gateway_url is not None
        return self.doors.gateway_url

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request to the gateway, from a thread."""

        def work() -> httpx.Response:
            with httpx.Client(base_url=self.url, verify=False, trust_env=False, timeout=PATIENCE_S) as http:
                return http.request(method, path, **options)

        return await trio.to_thread.run_sync(work)

    async def control(self, use: Callable[[ControlClient], Any]) -> Any:
        """What `use` makes of a client of the control socket, in a thread as a command would be."""

        def work() -> Any:
            with ControlClient(self.node.home, answer_s=PATIENCE_S) as client:
                return use(client)

        return await trio.to_thread.run_sync(work)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


@pytest.fixture
def opened(home: Home) -> Callable[..., AbstractAsyncContextManager[Open]]:
    """Opens the doors of a fake node; settings over the defaults (a gateway, at any port)."""

    @asynccontextmanager
    async def open_fake(**settings: Any) -> AsyncIterator[Open]:
        config = Config(**{"roles": ("gateway",), "gateway_port": 0, **settings})
        node = FakeNode(home, config)
        actions = FakeActions(node)
        with trio.fail_after(PATIENCE_S):
            async with open_doors(node, actions) as doors:
                yield Open(node, actions, doors)

    return open_fake
