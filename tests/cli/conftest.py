"""Commands run in this process, each test with a home of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from typer.testing import CliRunner, Result

from commonlore.cli.main import app
from commonlore.peer.config import Config
from commonlore.peer.gateway.doors import open_doors
from commonlore.peer.gateway.fake import FakeNode
from commonlore.peer.gateway.fake_actions import FakeActions
from commonlore.peer.home import Home

Lore = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home that is the default of every command."""
    monkeypatch.setenv("COMMONLORE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COMMONLORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "home"


@pytest.fixture
def lore(home: Path) -> Lore:
    """Runs a command line: `lore("key", "new", "alice")`."""
    runner = CliRunner()

    def run(*arguments: str, **options: object) -> Result:
        return runner.invoke(app, list(arguments), prog_name="commonlore", catch_exceptions=False, **options)

    return run


@dataclass
class RunningNode:
    """A fake node that runs in the home of the test's commands, and what it was ordered."""

    node: FakeNode
    actions: FakeActions


@pytest.fixture
def running(home: Path) -> Iterator[RunningNode]:
    """The doors of a fake node, open in a thread of their own as long as the test lasts."""
    place = Home(home).create()
    opened: queue.SimpleQueue[tuple[RunningNode, trio.lowlevel.TrioToken, trio.Event]] = queue.SimpleQueue()

    async def serve() -> None:
        node, closing = FakeNode(place, Config()), trio.Event()
        actions = FakeActions(node)
        async with open_doors(node, actions):
            opened.put((RunningNode(node, actions), trio.lowlevel.current_trio_token(), closing))
            await closing.wait()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    running, token, closing = opened.get(timeout=120)
    yield running
    token.run_sync_soon(closing.set)
    thread.join(120)
