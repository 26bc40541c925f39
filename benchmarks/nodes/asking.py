"""A client peer as a process: a whole node with its home, which asks over libp2p. Run by `arms`."""

from __future__ import annotations

import sys
from collections import deque

import trio

from commonlore.peer.asking.answers import AskOptions
from commonlore.peer.client import Client
from commonlore.peer.config import Config
from commonlore.protocol.requests.records import ChatMessage

from ..child import next_order, say
from .load import Load, Timing, report


async def run(client: Client, load: Load) -> list[Timing]:
    """Ask the load, keeping `concurrency` questions under way."""
    waiting = deque(load.prompts)
    done: list[Timing] = []

    async def ask() -> None:
        while waiting:
            options = AskOptions((ChatMessage("user", waiting.popleft()),), sampling=load.sampling)
            timing = Timing()
            async with client.answer(options) as answer:
                async for delta in answer:
                    timing.took(len(delta.tokens))
            timing.end()
            done.append(timing)

    async with trio.open_nursery() as nursery:
        for _ in range(load.concurrency):
            nursery.start_soon(ask)
    return done


async def serve() -> None:
    """Obey the parent until it closes. The first order is the home and the settings."""
    order = await trio.to_thread.run_sync(next_order)
    if order is None:
        return
    settings = order["config"] | {"bootstrap": tuple(order["config"]["bootstrap"])}
    async with Client.connect(home=order["home"], config=Config(**settings)) as client:
        say({"ready": True})
        while (order := await trio.to_thread.run_sync(next_order)) is not None:
            say(report(await run(client, Load(**order))))


if __name__ == "__main__":
    sys.exit(trio.run(serve))
