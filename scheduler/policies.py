"""Routing policies: each draws workers from the view and scores those that may serve the ask.

The lowest score wins.

Rules of this file: a policy looks at a bounded number of workers, however many there are, so that routing
costs the same at ten peers and at ten thousand; at equal scores the earlier drawn wins, and draws come in
random order; a score of 0 ends the search. Sources: power of two choices (Mitzenmacher 2001), consistent
hashing with bounded loads (Mirrokni et al. 2018), holders first unless overloaded (what Ray Serve and
LoRAX do for adapters).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple

from ..protocol.ids import PeerId
from .events import AskSpec
from .pools import Pool
from .prng import Prng
from .standing import PPM
from .view import NetworkView, WorkerView

HOLDERS_DRAWN = 8
HOMES_DRAWN = 2
OTHERS_DRAWN = 1
SCANNED = 64
"""Policies that want the best of all look at so many: exact up to this number of workers a base, a sample
beyond."""
MISS_WEIGHT = 3
"""A miss costs more than its ask's wait: it takes the line from other loads and a slot from another adapter.
Together with the homes this was found by simulation (scenarios skew, churn and first_light; 1 to 10 tried).
"""


class Candidate(NamedTuple):
    """A worker that may serve the ask. `missing` counts the ask's adapters it must load first, each in about
    `load_us`; `load` the asks believed on it, `outstanding` our own of them; `price` is the most this ask can
    cost there, `work_us` about how long its tokens take alone."""

    worker: WorkerView
    missing: int
    load: int
    outstanding: int
    price: int
    work_us: int
    load_us: int
    success_ppm: int


@dataclass(slots=True)
class Field:
    """What a policy may look at. `cursor` is the round robin's place."""

    view: NetworkView
    rng: Prng
    cursor: int = 0


Draw = Callable[[Field, AskSpec], Iterator[PeerId]]
Score = Callable[[Candidate, AskSpec], int]


@dataclass(frozen=True, slots=True)
class Policy:
    """How workers are drawn, and what makes one better."""

    draw: Draw
    score: Score


def rotate(pool: Pool, start: int) -> Iterator[PeerId]:
    """All of a pool, from `start` on."""
    return (pool[(start + step) % len(pool)] for step in range(len(pool)))


def sample(pool: Pool, count: int, rng: Prng) -> Iterator[PeerId]:
    """At most `count` of a pool, distinct, in random order."""
    return (pool[at] for at in rng.draw(len(pool), count))


def draw_any(field: Field, spec: AskSpec) -> Iterator[PeerId]:
    """Everybody, lazily: some at random, then the rest from a random place on."""
    pool = field.view.serving(spec.base)
    if not pool:
        return iter(())
    return chain(sample(pool, 8, field.rng), rotate(pool, field.rng.below(len(pool))))


def draw_next(field: Field, spec: AskSpec) -> Iterator[PeerId]:
    """Everybody, from the one after the last on."""
    pool = field.view.serving(spec.base)
    field.cursor += 1
    return rotate(pool, field.cursor)


def draw_scanned(field: Field, spec: AskSpec) -> Iterator[PeerId]:
    return sample(field.view.serving(spec.base), SCANNED, field.rng)


def draw_two(field: Field, spec: AskSpec) -> Iterator[PeerId]:
    return sample(field.view.serving(spec.base), 2, field.rng)


def draw_ring(field: Field, spec: AskSpec) -> Iterator[PeerId]:
    """The successors of the ask's adapter on the ring of its base."""
    return homes(field, spec, HOLDERS_DRAWN)


def draw_holders(field: Field, spec: AskSpec) -> Iterator[PeerId]:
    """Some that hold the ask's heaviest adapter, its first homes on the ring, and another for comparison.

    Homes let peers that know nothing of each other load an adapter at the same few workers.
    """
    others = field.view.serving(spec.base)
    if not spec.adapters:
        return sample(others, HOLDERS_DRAWN, field.rng)
    holders = field.view.holding(spec.base, spec.adapters[0])
    return chain(
        sample(holders, HOLDERS_DRAWN, field.rng),
        homes(field, spec, HOMES_DRAWN),
        sample(others, OTHERS_DRAWN, field.rng),
    )


def homes(field: Field, spec: AskSpec, count: int) -> Iterator[PeerId]:
    """The first workers that the ask's heaviest adapter (or the ask itself) meets on the ring."""
    key = spec.adapters[0] if spec.adapters else str(spec.ask_id)
    return islice(field.view.ring(spec.base).walk(key), count)


def score_equal(candidate: Candidate, spec: AskSpec) -> int:
    """The first drawn will do."""
    return 0


def score_outstanding(candidate: Candidate, spec: AskSpec) -> int:
    """Our own asks there."""
    return candidate.outstanding


def score_load(candidate: Candidate, spec: AskSpec) -> int:
    """Everybody's asks there, against its batch; in parts per million."""
    return candidate.load * PPM // candidate.worker.max_batch


def score_price(candidate: Candidate, spec: AskSpec) -> int:
    """The price; at equal prices the emptier one."""
    return candidate.price * PPM + min(score_load(candidate, spec), PPM - 1)


def score_room(candidate: Candidate, spec: AskSpec) -> int:
    """Whether its batch is full."""
    return int(candidate.load >= candidate.worker.max_batch)


def score_time(candidate: Candidate, spec: AskSpec) -> int:
    """The expected microseconds until the answer is whole, the longer the likelier it is to fail.

    A full batch is taken to decode at half the speed of a single sequence, and a waiting ask to be of this
    one's length.
    """
    batch, work_us = candidate.worker.max_batch, candidate.work_us
    slowdown_us = work_us * min(candidate.load, batch) // batch
    waiting = max(0, candidate.load + 1 - batch)
    queue_us = waiting * 2 * work_us // batch
    load_us = candidate.missing * candidate.load_us * MISS_WEIGHT
    return (queue_us + load_us + work_us + slowdown_us) * PPM // candidate.success_ppm


POLICIES: dict[str, Policy] = {
    "affinity_and_load": Policy(draw_holders, score_time),
    "random": Policy(draw_any, score_equal),
    "cheapest": Policy(draw_scanned, score_price),
    "round_robin": Policy(draw_next, score_equal),
    "least_outstanding": Policy(draw_scanned, score_outstanding),
    "power_of_two": Policy(draw_two, score_load),
    "consistent_hash": Policy(draw_ring, score_room),
}
DEFAULT_POLICY = "affinity_and_load"
