"""When an adapter is asked for more than its holders can serve, name an idle worker that should load it
before the next ask needs it."""

from __future__ import annotations

from ..protocol.ids import Cid
from .events import Prefetch
from .fields import Shelf
from .members import Member
from .placement import replicas
from .query import Query
from .ring import HOMES
from .survey import may_serve

SPACING_MS = 5_000


def suggest(query: Query, adapter: Cid, shelf: Shelf, chosen: Member) -> Prefetch | None:
    """Before an ask goes to `chosen`: who else should hold its heaviest adapter, if that is needed. At most
    one look for an idle worker, hence one suggestion, an adapter every `SPACING_MS`."""
    now_ms, batch, standing = query.now_ms, chosen.max_batch, chosen.standing
    load = standing.load_at(now_ms) if standing.foreign else standing.outstanding
    if 2 * load < batch or now_ms - shelf.hinted_ms < SPACING_MS or adapter not in chosen.held:
        return None
    if load < batch and not _is_short(query, shelf, batch):
        return None
    shelf.hinted_ms = now_ms
    member = _idle(query, shelf)
    return Prefetch(member.peer, adapter) if member is not None else None


def _is_short(query: Query, shelf: Shelf, batch: int) -> bool:
    """Whether fewer hold it than its demand calls for."""
    wanted = replicas(shelf.demand.rate_mhz(query.now_ms), query.estimates.answer_ms, batch)
    return len(shelf.holders) < wanted


def _idle(query: Query, shelf: Shelf) -> Member | None:
    """The first home that does not hold it, may serve it and has room in its batch."""
    for member in shelf.homes(query.field.ring, HOMES):
        has_room = member.standing.load_at(query.now_ms) < member.max_batch
        if has_room and query.adapter not in member.held and may_serve(member, query):
            return member
    return None
