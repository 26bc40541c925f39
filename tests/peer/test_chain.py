"""What a node knows of its chain: its time, and the bounds that its Registry holds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from commonlore.peer.chain import ChainLink
from commonlore.peer.clock import ChainClock, ManualClock
from commonlore.protocol.content.manifests import Split
from commonlore.protocol.content.splits import SPLIT_BOUNDS, SplitBounds
from commonlore.protocol.errors import Unreachable

OTHERS = SplitBounds(SPLIT_BOUNDS.lowest, Split(100, 9_000, 9_000, 9_000, 9_000))


class Client:
    """A chain that answers when it is up; `reads` counts how often it was asked for its bounds."""

    def __init__(self) -> None:
        self.up, self.reads = False, 0
        self.registry = SimpleNamespace(split_bounds=self.split_bounds)

    def chain_time(self) -> int:
        if not self.up:
            raise Unreachable("the chain is down")
        return 5_000

    def split_bounds(self) -> SplitBounds:
        self.reads += 1
        return OTHERS


class Kept(dict[str, bytes]):
    """A node's settings."""

    async def get(self, name: str) -> bytes | None:  # type: ignore[override]
        return super().get(name)

    async def put(self, name: str, value: bytes) -> None:
        self[name] = value


def link_to(client: Any, settings: Any) -> ChainLink:
    return ChainLink(None, client, ChainClock(ManualClock(0), 0, 100), settings)


async def test_the_registry_s_bounds_replace_the_usual_ones_once_the_chain_answers() -> None:
    client: Any = Client()
    link = link_to(client, Kept())
    with pytest.raises(Unreachable):
        await link.observe()
    assert link.split_bounds == SPLIT_BOUNDS
    client.up = True
    await link.observe()
    await link.observe()
    assert (link.split_bounds, client.reads, link.clock.epoch()) == (OTHERS, 1, 50)


async def test_a_node_that_starts_without_its_chain_goes_by_the_time_that_it_last_saw_there() -> None:
    client, kept = Client(), Kept()
    client.up = True
    await link_to(client, kept).observe()
    client.up = False
    restarted = link_to(client, kept)
    await restarted.recall()
    with pytest.raises(Unreachable):
        await restarted.observe()
    assert restarted.clock.epoch() == 50
