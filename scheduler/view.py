"""Who is out there, as this peer believes: the workers' adverts, indexed by base and by adapter.

Rules of this file: a higher `seq` replaces a lower one; an advert from outside the clock window changes
nothing; a worker that falls silent for a lifetime is forgotten. Every order kept here follows from the
order of events alone, never from hashing, so two peers with the same history choose alike. An advert costs
what it changes, whatever the size of the network. All times are Unix milliseconds given by the caller.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from ..protocol.gossip.adverts import ADVERT_LIFETIME_MS, MAX_CLOCK_SKEW_MS
from ..protocol.ids import Cid, PeerId
from .fields import Field
from .members import LISTED, Member, WorkerView, worker_view
from .pools import Pool
from .standing import Standings

__all__ = ["MAX_WARM", "NEVER_MS", "WARM_GRACE_MS", "NetworkView", "WorkerView", "worker_view"]

MAX_WARM = 64
WARM_GRACE_MS = 10_000
"""How long a worker that was sent an adapter is believed to hold it although its adverts do not say so
yet."""
BACKLOG = 4
NEVER_MS = 1 << 62


class NetworkView:
    """The workers believed alive, at most `max_workers` (the longest silent makes room)."""

    def __init__(
        self,
        lifetime_ms: int = ADVERT_LIFETIME_MS,
        max_workers: int = 20_000,
        backlog: int = BACKLOG,
        standings: Standings | None = None,
    ) -> None:
        self.lifetime_ms = lifetime_ms
        self.max_workers = max_workers
        self.stale_ms = NEVER_MS
        """When the longest silent may have to be forgotten, at the earliest."""
        self._backlog = backlog
        self._standings = Standings(2 * max_workers) if standings is None else standings
        self._members: OrderedDict[PeerId, Member] = OrderedDict()  # the first has been silent longest
        self._fields: dict[Cid, Field] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[WorkerView]:
        return (member.ad for member in self._members.values())

    def get(self, peer: PeerId) -> WorkerView | None:
        """The newest advert of a worker believed alive."""
        member = self._members.get(peer)
        return member.ad if member is not None else None

    def member(self, peer: PeerId) -> Member | None:
        """A worker believed alive."""
        return self._members.get(peer)

    def field(self, base: Cid) -> Field | None:
        """The workers of a base, if there ever were any."""
        return self._fields.get(base)

    def serving(self, base: Cid) -> Pool[Member]:
        """The workers of a base."""
        field = self._fields.get(base)
        return field.everyone if field is not None else Pool()

    def holding(self, base: Cid, adapter: Cid) -> Pool[Member]:
        """The workers of a base that hold an adapter, or were just sent an ask for it."""
        field = self._fields.get(base)
        shelf = field.shelves.get(adapter) if field is not None else None
        return shelf.holders if shelf is not None else Pool()

    def apply(self, now_ms: int, worker: WorkerView) -> bool:
        """Take an advert in.

        False, and nothing changed, if it is old news or from outside the clock window.
        """
        member = self._members.get(worker.peer)
        if not self._is_current(now_ms, worker) or (member is not None and worker.seq <= member.ad.seq):
            return False
        if member is not None and member.ad.base != worker.base:
            self.forget(worker.peer)
            member = None
        if member is None:
            member = self._admit(worker)
        else:
            self._members.move_to_end(worker.peer)
            member.read(worker, self._backlog)
        self.stale_ms = min(self.stale_ms, worker.seen_ms + self.lifetime_ms)
        member.standing.advertised(now_ms, worker.queue_depth + worker.running)
        self._reindex(now_ms, member)
        self.weigh(now_ms, member)
        return True

    def warm(self, ready_ms: int, member: Member, adapter: Cid) -> None:
        """Believe that it holds `adapter`, ready at `ready_ms`: it was just sent work that needs it."""
        held = member.held
        since_ms = held.get(adapter)
        if since_ms == LISTED:
            return
        if since_ms is None:
            member.warm += 1
            self._fields[member.ad.base].hold(adapter, member)
        else:
            del held[adapter]
            ready_ms = max(ready_ms, since_ms)
        held[adapter] = ready_ms
        if member.warm > MAX_WARM:
            self._cool(member, next(each for each, since in held.items() if since != LISTED))

    def weigh(self, now_ms: int, member: Member) -> None:
        """Its load or its record changed: what does it cost now, and does it still have room?"""
        standing = member.reprice()
        load = standing.load_at(now_ms) if standing.foreign else standing.outstanding
        if load < member.room:
            if not member.is_roomy:
                member.is_roomy = True
                self._fields[member.ad.base].roomy.add(member)
        elif member.is_roomy:
            member.is_roomy = False
            self._fields[member.ad.base].roomy.discard(member)

    def forget(self, peer: PeerId) -> WorkerView | None:
        """Drop a worker, until its next advert; returns what was known of it."""
        member = self._members.pop(peer, None)
        if member is None:
            return None
        field = self._fields[member.ad.base]
        field.leave(member)
        member.standing.member = None
        if not field.everyone:
            del self._fields[member.ad.base]
        return member.ad

    def forget_stale(self, now_ms: int) -> list[WorkerView]:
        """Drop the workers whose last advert is older than a lifetime; O(dropped)."""
        dropped: list[WorkerView] = []
        self.stale_ms = NEVER_MS
        while self._members:
            oldest = next(iter(self._members.values())).ad
            if oldest.seen_ms + self.lifetime_ms > now_ms:
                self.stale_ms = oldest.seen_ms + self.lifetime_ms
                break
            self.forget(oldest.peer)
            dropped.append(oldest)
        return dropped

    def _is_current(self, now_ms: int, worker: WorkerView) -> bool:
        age_ms = now_ms - worker.issued_ms
        return -MAX_CLOCK_SKEW_MS <= age_ms <= self.lifetime_ms + MAX_CLOCK_SKEW_MS

    def _admit(self, worker: WorkerView) -> Member:
        if len(self._members) >= self.max_workers:
            self.forget(next(iter(self._members)))
        member = Member(worker, self._standings.of(worker.peer), self._backlog)
        member.standing.member = member
        self._members[worker.peer] = member
        field = self._fields.get(worker.base)
        if field is None:
            field = self._fields[worker.base] = Field(worker.base)
        field.enter(member)
        return member

    def _reindex(self, now_ms: int, member: Member) -> None:
        """Believe the advert about what the worker holds, as far as it tells."""
        listed = dict.fromkeys(member.ad.resident)
        for adapter in [a for a in member.held if a not in listed and self._is_over(now_ms, member, a)]:
            self._cool(member, adapter)
        for adapter in listed:
            since_ms = member.held.get(adapter)
            if since_ms is None:
                self._fields[member.ad.base].hold(adapter, member)
            elif since_ms != LISTED:
                member.warm -= 1
            member.held[adapter] = LISTED

    def _is_over(self, now_ms: int, member: Member, adapter: Cid) -> bool:
        """Whether an advert without the adapter says that it is gone: an earlier one had it, or it was sent
        there, and the grace is over with a whole list, or a lifetime without a word."""
        since_ms = member.held[adapter]
        if since_ms == LISTED:
            return True
        lists_all = member.ad.resident_count <= len(member.ad.resident)
        return now_ms - since_ms > (WARM_GRACE_MS if lists_all else self.lifetime_ms)

    def _cool(self, member: Member, adapter: Cid) -> None:
        if member.held.pop(adapter) != LISTED:
            member.warm -= 1
        self._fields[member.ad.base].release(adapter, member)
