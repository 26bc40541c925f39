"""Which workers a policy looks at.

Rules of this file: a draw is a bounded number of workers, however many there are, so that routing costs the
same at ten peers and at a hundred thousand; it takes one number from the stream, so that it is cheap; what it
draws need not be able to serve.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .members import Member
from .query import Query
from .ring import HOMES

Draw = Callable[[Query], Sequence[Member]]

SCANNED = 64
"""Policies that want the best of all look at so many: exact up to this number of workers a base, a sample
beyond."""
FEW_DRAWN = 8
HOLDERS_DRAWN = 6
HOMES_DRAWN = 2
KEEPERS_DRAWN = 2
OTHERS_DRAWN = 2
CACHING_DRAWN = 2


def draw_few(query: Query) -> Sequence[Member]:
    """Some, in random order: the first that may serve will do."""
    items = query.field.everyone.items
    return [items[at] for at in query.rng.draw(len(items), FEW_DRAWN)]


def draw_next(query: Query) -> Sequence[Member]:
    """The ones after the last: everybody in turn."""
    field = query.field
    items = field.everyone.items
    if not items:
        return ()
    field.cursor = (field.cursor + 1) % len(items)
    at = field.cursor
    turn = items[at : at + SCANNED]
    return turn if len(turn) == SCANNED else turn + items[: min(at, SCANNED - len(turn))]


def draw_two(query: Query) -> Sequence[Member]:
    """Two at random."""
    items = query.field.everyone.items
    return [items[at] for at in query.rng.draw(len(items), 2)]


def draw_scanned(query: Query) -> Sequence[Member]:
    """Everybody, or a large sample."""
    return query.field.everyone.pick(SCANNED, query.rng.next64())


def draw_homes(query: Query) -> Sequence[Member]:
    """The successors of the ask's adapter on the ring."""
    adapter, field = query.adapter, query.field
    return field.ring.homes(str(query.spec.ask_id)) if adapter is None else field.homes(adapter, HOMES)


def draw_holders(query: Query) -> Sequence[Member]:
    """Some that hold the ask's heaviest adapter (without an adapter, anybody), and who read the beginning of
    this prompt before."""
    bits, shelf = query.rng.next64(), query.shelf
    if query.adapter is None:
        drawn = query.field.everyone.pick(HOLDERS_DRAWN, bits)
    else:
        drawn = shelf.holders.pick(HOLDERS_DRAWN, bits) if shelf is not None else []
    return [*query.cached, *drawn] if query.cached else drawn


def draw_newcomers(query: Query) -> Sequence[Member]:
    """Who might hold the adapter from now on: its first homes, some that once held it, and some others for
    comparison.

    Homes let peers that know nothing of each other load an adapter at the same few workers.
    """
    adapter, field, shelf = query.adapter, query.field, query.shelf
    bits = query.rng.next64()
    others = (field.roomy or field.everyone).pick(OTHERS_DRAWN, bits)
    if adapter is None:
        return others
    if shelf is None:
        return field.homes(adapter, HOMES_DRAWN) + others
    return shelf.homes(field.ring, HOMES_DRAWN) + shelf.keepers.pick(KEEPERS_DRAWN, bits) + others


def draw_caching(query: Query) -> Sequence[Member]:
    """Who read the beginning of this prompt before, and two others for comparison."""
    others = query.field.everyone.pick(CACHING_DRAWN, query.rng.next64())
    return [*query.cached, *others]
