"""Engines that are stepped by whoever asks: the loop around them, the same for each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ..engines.jobs import Answered, Ask, Job

PATIENCE_STEPS = 100_000


class Progress(NamedTuple):
    """New tokens of the ask with this number, and whether they are its last."""

    number: int
    tokens: Sequence[int]
    done: bool


class Stepper(Protocol):
    """What the loop needs of an engine."""

    def start(self, number: int, ask: Ask, tokens: int) -> bool:
        """Begin an ask; False when there is no room for its adapter now."""

    def step(self) -> Sequence[Progress]:
        """Compute once for all that run."""


def drive(engine: Stepper, job: Job) -> list[Answered]:
    """Answer a job."""
    answered = [Answered() for _ in job.asks]
    waiting = list(range(len(job.asks)))
    under_way, idle_steps, began = 0, 0, time.perf_counter()
    while waiting or under_way:
        now = time.perf_counter() - began
        for number in _startable(job, waiting, under_way, now):
            if engine.start(number, job.asks[number], job.tokens):
                answered[number].asked = job.arrivals[number] if job.arrivals else now
                waiting.remove(number)
                under_way += 1
        if not under_way:
            idle_steps = _wait_for_arrival(job, waiting, now, idle_steps)
            continue
        for progress in engine.step():
            if progress.tokens:
                answered[progress.number].took(
                    time.perf_counter() - began, len(progress.tokens), progress.tokens[0]
                )
            under_way -= progress.done
    return answered


def _startable(job: Job, waiting: Sequence[int], under_way: int, now: float) -> list[int]:
    """Asks to try now, in their order; one whose adapter has no room lets the others pass."""
    if job.arrivals:
        return [number for number in waiting if job.arrivals[number] <= now]
    return list(waiting[: job.concurrency - under_way])


def _wait_for_arrival(job: Job, waiting: Sequence[int], now: float, idle_steps: int) -> int:
    if job.arrivals and job.arrivals[waiting[0]] > now:
        time.sleep(job.arrivals[waiting[0]] - now)
        return 0
    if idle_steps > PATIENCE_STEPS:
        raise RuntimeError(f"{len(waiting)} asks wait, nothing runs, and none can be started")
    return idle_steps + 1
