"""Workers that act on placement advice, computed from what all gateways are asked for and all workers hold:
more than any peer of a real network knows, so what it gains here is the most that it could.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...protocol.ids import Cid, PeerId
from ...scheduler.core import Scheduler
from ...scheduler.placement import Site, place
from ..workload.people import BASE, People

if TYPE_CHECKING:
    from .fleet import Worker


def demand_of(schedulers: Sequence[Scheduler], now_ms: int) -> tuple[Counter[Cid], int]:
    """Asks in 1,000 seconds by adapter, over all gateways, and how long answers take."""
    rates: Counter[Cid] = Counter()
    answer_ms = 1
    for scheduler in schedulers:
        field = scheduler.view.field(BASE)
        if field is not None:
            answer_ms = max(answer_ms, field.estimates.answer_ms)
            rates.update({each: shelf.demand.rate_mhz(now_ms) for each, shelf in field.shelves.items()})
    return rates, answer_ms


def advise(
    schedulers: Sequence[Scheduler], workers: Sequence[Worker], people: People, now_ms: int
) -> dict[PeerId, tuple[Cid, ...]]:
    """What each living worker should hold."""
    rates, answer_ms = demand_of(schedulers, now_ms)
    sites = [
        Site(
            people.peers[worker.number],
            worker.engine.speed.slots,
            worker.engine.speed.max_batch,
            tuple(people.adapters[each] for each in worker.engine.resident()),
        )
        for worker in workers
        if worker.alive
    ]
    return place(rates, answer_ms, sites)
