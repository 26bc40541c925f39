"""The watchtower role: every lane is watched, beside whatever else the node does; with a bond, lanes that owe
a commitment are taken over too.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import trio

from ...protocol.errors import CommonloreError, ConfigError, DeadlineExceeded, Unreachable
from ...protocol.ids import Address, Cid
from ...protocol.settlement.published import MAX_EPOCH_BYTES
from ..attribution.index_committed import published_index
from ..clock import Clock
from ..node import Node
from ..watchtower.demands import WatchReport
from ..watchtower.index_watch import IndexWatch
from ..watchtower.succeeding import Successor
from ..watchtower.watching import Watchtower

log = logging.getLogger("commonlore.peer.watch")
LONGEST_PAUSE_S = 300.0
Tell = Callable[[WatchReport], None]
Sweep = Callable[[], Awaitable[None]]
"""Takes out of indexes what was withdrawn: to judge one it is fetched, from whoever still has it."""


@dataclass(frozen=True, slots=True)
class WatchStatus:
    """How watching is doing, for people: `waiting_for` is empty when the last round was whole; `doubts`
    counts commitments whose credits do not follow, which cannot be proved."""

    last_round_ms: int = 0
    lanes: int = 0
    judged: int = 0
    challenges: int = 0
    waiting_for: str = ""
    failures: int = 0
    doubts: int = 0


class Watchman:
    """A watchtower that looks again and again."""

    def __init__(
        self,
        tower: Watchtower,
        clock: Clock,
        successor: Successor | None = None,
        indexes: IndexWatch | None = None,
        sweep: Sweep | None = None,
    ) -> None:
        self._tower = tower
        self._clock = clock
        self._successor = successor
        self._indexes = indexes
        self._sweep = sweep
        self._told: list[Tell] = []
        self.status = WatchStatus()

    def tell(self, tell: Tell) -> None:
        """Call this with the report of every round."""
        self._told.append(tell)

    async def run(self, interval_s: float) -> None:
        """Look for ever, every `interval_s` seconds; after a failure at growing intervals."""
        while True:
            await self.look()
            slower = 2.0 ** min(self.status.failures, 10)
            await trio.sleep(min(interval_s * slower, max(LONGEST_PAUSE_S, interval_s)))

    async def look(self) -> None:
        """One round whose failure is logged and remembered."""
        before = self.status
        try:
            report = await self._tower.look()
            if self._indexes is not None:
                await self._indexes.look(report)
            if report.indexes and self._sweep is not None:
                await self._sweep()
            if self._successor is not None:
                await self._successor.look(report)
        except CommonloreError as error:
            self._fail(before, str(error))
            level = logging.WARNING if isinstance(error, Unreachable | DeadlineExceeded) else logging.ERROR
            log.log(level, "watching waits: %s", error)
            return
        except Exception:  # a defect of watching: the node goes on without it
            self._fail(before, "watching failed; see the log")
            log.exception("watching failed")
            return
        self.status = WatchStatus(
            last_round_ms=self._clock.now_ms(),
            lanes=report.lanes,
            judged=before.judged + report.judged,
            challenges=before.challenges + len(report.acts) + len(report.index_acts),
            waiting_for="; ".join(report.waiting),
            doubts=before.doubts + len(report.doubts),
        )
        for tell in self._told:
            tell(report)

    def _fail(self, before: WatchStatus, reason: str) -> None:
        counts = (before.last_round_ms, before.lanes, before.judged, before.challenges)
        self.status = WatchStatus(*counts, reason, before.failures + 1, before.doubts)


@asynccontextmanager
async def open_watchman(node: Node) -> AsyncIterator[Watchman]:
    """The watchtower of this node, running until the node closes. Raises ConfigError without a chain."""
    if node.chain.client is None:
        raise ConfigError("watching needs a chain: set chain_url and deployment")

    async def fetch(_: Address, cid: Cid) -> bytes:
        return await node.content.get(cid, MAX_EPOCH_BYTES)

    successor = None
    if node.config.bond:
        bond = max(node.config.bond, node.chain.client.deployment.minimum_bond)
        successor = Successor(node.chain.client, fetch, node.content.put, bond)
    tower = Watchtower(node.chain.client, fetch, demands=node.config.watch_demands)
    indexes = IndexWatch(node.chain.client, partial(published_index, node.content))
    watchman = Watchman(tower, node.clock, successor, indexes, node.withdrawals.sweep)
    node.nursery.start_soon(watchman.run, float(node.config.watch_interval_s))
    yield watchman
