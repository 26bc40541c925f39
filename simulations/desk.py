"""A gateway of the crowd: drives a real scheduler, and knows when it will hear what.

`Progress` is left out: it changes nothing for an ask that has not failed, and `Failed` and `Completed` carry
the same numbers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..protocol.adverts import WorkerAd
from ..scheduler.core import Scheduler
from ..scheduler.events import (
    AdvertSeen,
    AskArrived,
    Completed,
    Dispatch,
    Event,
    GiveUp,
    Tick,
    Wake,
)
from ..scheduler.view import worker_view
from .kernel import Alarm

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
        self._alarm = Alarm(crowd.kernel, lambda: self._tell(Tick()))
        self._open: dict[int, int] = {}

    def hear(self, worker: int, ad: WorkerAd) -> None:
        """A worker's advert arrives."""
        self._tell(AdvertSeen(worker_view(self._crowd.peer_of(worker), ad, self._kernel.now_us // 1000)))

    def ask(self, number: int) -> None:
        """Somebody asks."""
        self._open[number] = 0
        self._tell(AskArrived(self._crowd.spec(number)))

    def _hear_end(self, number: int, attempt: int, worker: int, event: Event, first_us: int) -> None:
        """What was fixed at the dispatch has come; it counts unless the ask ended, or is elsewhere."""
        if self._open.get(number) == attempt:
            self._crowd.heard(number, worker, event, first_us)
            if type(event) is Completed:
                del self._open[number]
            self._tell(event)

    def _tell(self, event: Event) -> None:
        for action in self._scheduler.step(self._kernel.now_us // 1000, event):
            if isinstance(action, Dispatch):
                self._dispatch(action.ask_id, self._crowd.worker_of[action.peer])
            elif isinstance(action, Wake):
                self._alarm.set(action.at_ms * 1000)
            elif isinstance(action, GiveUp):
                self._give_up(action.ask_id, action.code)

    def _give_up(self, number: Any, code: str) -> None:
        del self._open[number]
        self._crowd.end(number, code)

    def _dispatch(self, number: Any, worker: int) -> None:
        self._open[number] = attempt = self._open[number] + 1
        at_us, event, first_us = self._crowd.dispatch(number, worker, self.latency_us[worker])
        self._kernel.at(at_us, self._hear_end, number, attempt, worker, event, first_us)
