"""A gateway of the crowd: drives a real scheduler, and knows when it will hear what.

`Progress` is left out: it changes nothing for an ask that has not failed, and `Failed` and `Completed` carry
the same numbers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ...protocol.gossip.adverts import WorkerAd
from ...scheduler.core import Scheduler
from ...scheduler.events import AdvertSeen, Dispatch, Event, GiveUp, Tick, Wake
from ...scheduler.view import worker_view
from ..modelled.kernel import Alarm

if TYPE_CHECKING:
    from .crowd import Crowd


class Desk:
    """One gateway: a scheduler, and what it was promised. `latency_us` is one way, to each worker."""

    def __init__(self, number: int, crowd: Crowd, seed: int, latency_us: list[int]) -> None:
        scenario = crowd.scenario
        config = replace(
            scenario.scheduler,
            advert_lifetime_ms=scenario.advert_lifetime_ms,
            max_workers=max(scenario.scheduler.max_workers, scenario.workers.count),
            max_asks=max(scenario.scheduler.max_asks, scenario.workers.count),
        )
        self.latency_us = latency_us
        self._crowd = crowd
        self._kernel = crowd.kernel
        self._scheduler = Scheduler(config, seed * 1_000_003 + number)
        self._step = self._scheduler.step
        self._dispatch = crowd.dispatch
        self._alarm = Alarm(crowd.kernel, lambda: self.tell(Tick()))

    def hear(self, worker: int, ad: WorkerAd) -> None:
        """A worker's advert arrives."""
        self.tell(AdvertSeen(worker_view(self._crowd.peers[worker], ad, self._kernel.now_us // 1000)))

    def tell(self, event: Event) -> None:
        """Something happened: let the scheduler know, and do what it says."""
        for action in self._step(self._kernel.now_us // 1000, event):
            if isinstance(action, Dispatch):
                self._dispatch(self, action.ask_id, action.peer)
            elif isinstance(action, Wake):
                self._alarm.set(action.at_ms * 1000)
            elif isinstance(action, GiveUp):
                self._crowd.end(action.ask_id, action.code)
