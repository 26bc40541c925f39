"""Asking: drives the scheduler's pure core with real time and carries out what it orders, one task an ask.

Rules of this file: only `_step` touches the scheduler; an ask ends in an answer (whole, or what was
delivered when its time was over) or one typed error by its deadline; whoever leaves an answer cancels it, and
waits for its last receipt to be paid, but not beyond the deadline.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from ...protocol.content.compositions import AdapterWeight
from ...protocol.errors import DeadlineExceeded
from ...protocol.gossip.adverts import WorkerAd
from ...protocol.ids import Cid
from ...protocol.signing.envelope import Sealed
from ...scheduler import events
from ...scheduler.core import Scheduler
from ...scheduler.view import worker_view
from ..catalog import Catalog
from ..hearsay import once_met
from .answers import BUFFERED_DELTAS, Answer, AskOptions, Delta
from .ask_run import AskRun
from .ask_state import Scene, Wanted
from .attempt_parts import AttemptParts, Offer
from .chosen import chosen_adapters, common_base
from .known_workers import KnownWorkers
from .prefetch import suggest


class Asker:
    """Every ask of one node. Run `run` in the node's nursery."""

    def __init__(
        self, scheduler: Scheduler, parts: AttemptParts, catalog: Catalog, nursery: trio.Nursery
    ) -> None:
        """Tasks of asks run in `nursery`, the node's; their errors stay in their answers."""
        self._scheduler = scheduler
        self._nursery = nursery
        self._parts = parts
        self._catalog = catalog
        self._clock = parts.clock
        self._known = KnownWorkers(scheduler)
        self._scene = Scene(parts, scheduler, self._known, self._step)
        self._runs: dict[events.AskId, AskRun] = {}
        self._next_id = 0
        self._wake_at_ms: int | None = None
        self._alarm = trio.Event()

    # ---- what the network says

    def see(self, sealed: Sealed[WorkerAd]) -> None:
        """Take a worker's advert that passed its checks."""
        self._known.see(sealed)
        view = worker_view(sealed.peer_id, sealed.record, self._clock.now_ms())
        self._step(events.AdvertSeen(view))
        self._known.forget_silent()

    def offers(self) -> tuple[Offer, ...]:
        """The adverts of workers believed alive."""
        return self._known.alive()

    # ---- asking

    @asynccontextmanager
    async def ask(self, options: AskOptions) -> AsyncIterator[Answer]:
        """The answer to one question, as it grows; leaving the block cancels it.

        Raises NotFound for an unknown adapter, ConfigError for several that cannot answer together,
        DeadlineExceeded where even finding out took until then.
        """
        run = await self._open(options)
        ask_id = run.ask_id
        self._runs[ask_id] = run
        self._nursery.start_soon(run.run)
        try:
            yield run.answer
        finally:
            run.scope.cancel()
            with trio.move_on_after(run.left_s, shield=True):
                await run.ended.wait()  # what was delivered is being paid
            del self._runs[ask_id]
            self._step(events.Cancelled(ask_id, run.spent))

    async def _open(self, options: AskOptions) -> AskRun:
        deadline_ms = self._clock.now_ms() + int(options.deadline_s * 1000)
        with trio.move_on_after(options.deadline_s) as time:
            adapters = await self._catalog.patiently(lambda: chosen_adapters(self._catalog, options.adapters))
            base = await once_met(lambda: self._base_of(options, adapters))
            rank = await self._largest_rank(adapters)
        if time.cancelled_caught:
            raise DeadlineExceeded(options.too_late)
        send, receive = trio.open_memory_channel[Delta](BUFFERED_DELTAS)
        self._next_id += 1
        wanted = Wanted(options, base, rank, deadline_ms)
        answer = Answer(adapters, receive, options.citations)
        return AskRun(self._scene, self._next_id, wanted, answer, send)

    async def _base_of(self, options: AskOptions, adapters: tuple[AdapterWeight, ...]) -> Cid:
        """The base of these adapters, or, for a bare question, the one that most workers serve.

        Raises NotFound, ConfigError where adapters are for different bases.
        """
        if options.base is not None and len(adapters) < 2:
            return options.base
        if adapters:
            return await common_base(self._catalog, [entry.adapter for entry in adapters])
        return await self._catalog.patiently(self._known.most_served)

    async def _largest_rank(self, adapters: tuple[AdapterWeight, ...]) -> int:
        """What a worker must take at least; each of a composition's adapters has a slot of its own."""
        return max([(await self._catalog.adapter(entry.adapter)).rank for entry in adapters], default=0)

    # ---- the scheduler

    def _step(self, event: events.Event) -> None:
        for action in self._scheduler.step(self._clock.now_ms(), event):
            match action:
                case events.Dispatch() | events.GiveUp() | events.Abandon():
                    if (run := self._runs.get(action.ask_id)) is not None:
                        run.follow(action)
                case events.Wake(at_ms=at_ms):
                    self._wake_at_ms = at_ms
                    self._alarm.set()
                case events.Prefetch():
                    wanted = (action.peer, action.adapter, self._parts.binding())
                    self._nursery.start_soon(suggest, self._parts.rpc, *wanted)

    async def run(self) -> None:
        """Send a Tick when the latest Wake is due; for ever."""
        while True:
            self._alarm = trio.Event()
            wait_ms = None if self._wake_at_ms is None else self._wake_at_ms - self._clock.now_ms()
            with trio.move_on_after(float("inf") if wait_ms is None else max(0, wait_ms) / 1000) as limit:
                await self._alarm.wait()
            if limit.cancelled_caught:
                self._wake_at_ms = None
                self._step(events.Tick())
