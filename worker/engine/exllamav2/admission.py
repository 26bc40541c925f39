"""Who runs next, without a tensor in sight: `fairness` proposes, this decides who fits.

Rules of this file:
- One runs when the batch has a place, its adapters have or can have slots, and the LoRA mode lets its
  composition join those that run. One that does not fit is passed over so that others can run, but nobody
  takes a free slot before it, and after MAX_OVERTAKEN of them nobody passes.
- When somebody waits who does not fit, what is held gives way: it is parked until its reader goes on, and
  then first in line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..batching.fairness import MAX_OVERTAKEN, WaitingLine
from ..batching.sequence import Sequence as Request
from ..batching.slots import SlotTable
from ..lora.tiers import Composition

MayJoin = Callable[[Sequence[Composition], Composition], bool]


class Admission:
    """The waiting line, the slots that running requests hold, and who gave way."""

    def __init__(self, table: SlotTable, max_batch: int, may_join: MayJoin) -> None:
        self.table = table
        self.waiting = WaitingLine()
        self.running: list[Request] = []
        self.parked: list[Request] = []
        self.preemptions = 0
        self._max_batch = max_batch
        self._may_join = may_join

    def add(self, request: Request) -> None:
        """Wait in line. No more adapters than there are slots."""
        self.waiting.add(request)

    def admit(self) -> Request | None:
        """The next one to run, its slots held; None when nobody fits."""
        request = self._next()
        if request is not None:
            self.waiting.admit(request)
            self.table.hold(request.adapters)
            self.running.append(request)
        return request

    def _next(self) -> Request | None:
        if len(self.running) >= self._max_batch:
            return None
        passed = False
        for request in self.waiting.candidates():
            if self._fits(request) and not (passed and request.adapters - self.table.held):
                return request
            if request.overtaken >= MAX_OVERTAKEN:
                return None
            passed = True
        return None

    def give_way(self) -> list[Request]:
        """Those that run and must stop for those that wait."""
        if not len(self.waiting) or self._next() is not None:
            return []
        stopped = [request for request in self.running if request.held]
        self.running = [request for request in self.running if not request.held]
        for request in stopped:
            self.table.release(request.adapters)
        self.parked += stopped
        self.preemptions += len(stopped)
        return stopped

    def hold(self, request: Request, held: bool) -> None:
        """Its reader is behind, or goes on."""
        request.held = held
        if not held and request in self.parked:
            self.parked.remove(request)
            self.waiting.add_preempted(request)

    def remove(self, request: Request) -> None:
        """It is over, or nobody wants it any more."""
        if request in self.running:
            self.running.remove(request)
            self.table.release(request.adapters)
        elif request in self.parked:
            self.parked.remove(request)
        else:
            self.waiting.remove(request)
        self.waiting.counters.leave(request)

    def compositions(self) -> list[Composition]:
        """What runs is under these."""
        return [composition_of(request) for request in self.running]

    def _fits(self, request: Request) -> bool:
        joins = self._may_join(self.compositions(), composition_of(request))
        return joins and self.table.can_hold(request.adapters)


def composition_of(request: Request) -> Composition:
    """The adapters that it composes, with their weights.

    In one order whatever the request's: pages are shared between orders, so sums must be the same.
    """
    return tuple(sorted(request.prepared.request.adapters, key=lambda one: one.adapter))
