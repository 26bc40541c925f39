"""When an adapter is asked for more than its holders can serve, name an idle worker that should load it
before the next ask needs it."""

from __future__ import annotations

from ..protocol.ids import Cid
from .demand import Demand
from .events import Prefetch
from .members import Member
from .placement import replicas
from .query import Query
from .survey import bar_of

SPACING_MS = 5_000
MAX_REMEMBERED = 1_024


class Prefetcher:
    """At most one look for an idle worker, hence one suggestion, an adapter every `SPACING_MS`."""

    def __init__(self) -> None:
        self.demand = Demand()
        self._last_ms: dict[tuple[Cid, Cid], int] = {}

    def suggest(self, query: Query, chosen: Member) -> Prefetch | None:
        """After an ask goes to `chosen`: who else should hold its heaviest adapter, if that is needed."""
        adapter, now_ms = query.adapter, query.now_ms
        if adapter is None:
            return None
        self.demand.note(now_ms, adapter)
        load = chosen.standing.load_at(now_ms)
        if 2 * load < chosen.max_batch or adapter not in chosen.held:
            return None
        key = (query.spec.base, adapter)
        if now_ms - self._last_ms.get(key, -SPACING_MS) < SPACING_MS:
            return None
        if load < chosen.max_batch and not self._is_short(query, adapter, chosen.max_batch):
            return None
        self._remember(key, now_ms)
        member = self._idle(query, adapter)
        return Prefetch(member.peer, adapter) if member is not None else None

    def _is_short(self, query: Query, adapter: Cid, batch: int) -> bool:
        """Whether fewer hold it than its demand calls for."""
        rate_mhz = self.demand.rate_mhz(query.now_ms, adapter)
        wanted = replicas(rate_mhz, query.field.estimates.answer_ms, batch)
        return len(query.field.holders(adapter)) < wanted

    def _idle(self, query: Query, adapter: Cid) -> Member | None:
        """The first home that does not hold it, may serve it and has room in its batch."""
        for member in query.field.homes(adapter):
            has_room = member.standing.load_at(query.now_ms) < member.max_batch
            if has_room and adapter not in member.held and bar_of(member, query) is None:
                return member
        return None

    def _remember(self, key: tuple[Cid, Cid], now_ms: int) -> None:
        self._last_ms.pop(key, None)
        self._last_ms[key] = now_ms
        if len(self._last_ms) > MAX_REMEMBERED:
            del self._last_ms[next(iter(self._last_ms))]
