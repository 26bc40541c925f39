"""The mesh of a gossip topic: who passes messages on to whom, with liars among them.

Rules of this file: an honest peer dials `outbound` peers drawn evenly from everybody it may have heard of,
and accepts dials, the first that come, until it has `most` connections. A sybil dials `aggression` times as
often as an honest peer. Sybils accept everything and pass nothing on; who is off line neither accepts nor
dials.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..experiment.measures import Floats, Ints
from ..experiment.tables import WrongKey, above, between, within

MOST_DIALS = 50_000_000


@dataclass(frozen=True, slots=True)
class Overlay:
    """How many peers, and the mesh that they try to keep. Latencies are lognormal over connections."""

    peers: int = between(2, 2_000_000, 10_000)
    outbound: int = between(1, 128, 4)
    most: int = between(1, 1_024, 12)
    offline_share: float = between(0, 0.95, 0.0)
    latency_ms: float = above(0, 60_000, 80.0)
    latency_sigma: float = between(0, 5, 0.5)


@dataclass(frozen=True, slots=True)
class Adversary:
    """Sybils: their share of all peers, and how much more often than others they dial."""

    sybil_share: float = between(0, 0.95, 0.0)
    aggression: float = between(0, 1_000, 1.0)


def check_overlay(overlay: Overlay, adversary: Adversary) -> None:
    """Raises WrongKey."""
    if overlay.outbound > overlay.most:
        raise WrongKey("overlay.outbound", "overlay.outbound must not exceed overlay.most")
    dials = overlay.peers * overlay.outbound * (1 + adversary.sybil_share * adversary.aggression)
    within("overlay.peers", dials, MOST_DIALS, "dials")


@dataclass(frozen=True, slots=True)
class Mesh:
    """The honest peers that are on line, by number, and the connections between them, each way once."""

    honest: int
    sources: Ints
    targets: Ints
    latency_ms: Floats
    eclipsed: int
    """Honest peers on line with no honest neighbour on line."""

    @property
    def degrees(self) -> Ints:
        """Honest neighbours of each honest peer."""
        return np.bincount(self.sources, minlength=self.honest).astype(np.int64)


def eclipse_probability(overlay: Overlay, adversary: Adversary) -> float:
    """The chance that an honest peer has no honest neighbour on line: none of its dials met one that had
    room, and no honest dial that came (they come as a Poisson process) found room."""
    met = (1 - adversary.sybil_share) * (1 - overlay.offline_share)
    honest, sybil = _dials(overlay, adversary)
    accepted = _acceptance(overlay.most - overlay.outbound, honest + sybil)
    return float((1 - met * accepted) ** overlay.outbound * math.exp(-honest * accepted))


def _dials(overlay: Overlay, adversary: Adversary) -> tuple[float, float]:
    """How many dials an honest peer gets, from honest peers and from sybils."""
    present = 1 - overlay.offline_share
    share = adversary.sybil_share
    return overlay.outbound * (1 - share) * present, overlay.outbound * share * adversary.aggression


def _acceptance(places: int, others: float) -> float:
    """The chance that a dial finds one of `places`, when Poisson(`others`) more come, in any order."""
    chance, total = math.exp(-others), 0.0
    for count in range(1, 1_000):
        total += chance * min(1.0, places / count)
        chance *= others / count
    return total


def draw_mesh(overlay: Overlay, adversary: Adversary, draw: np.random.Generator) -> Mesh:
    """A mesh. Peers below `honest` are honest, on line, and the only ones that appear in it."""
    present = 1 - overlay.offline_share
    honest = max(2, round(overlay.peers * (1 - adversary.sybil_share) * present))
    dialled = draw.integers(0, overlay.peers, (honest, overlay.outbound))
    dialler = np.repeat(np.arange(honest), overlay.outbound)
    target = dialled.ravel()
    meets = (target < honest) & (target != dialler)
    one, other = _accepted(overlay, adversary, draw, (dialler[meets], target[meets], honest))
    low, high = np.minimum(one, other), np.maximum(one, other)
    pairs = np.unique(low * np.int64(honest) + high)
    low, high = pairs // honest, pairs % honest
    latency = overlay.latency_ms * np.exp(overlay.latency_sigma * draw.standard_normal(len(pairs)))
    sources, targets = np.concatenate([low, high]), np.concatenate([high, low])
    lonely = honest - len(np.unique(sources))
    return Mesh(honest, sources, targets, np.concatenate([latency, latency]), lonely)


def _accepted(
    overlay: Overlay, adversary: Adversary, draw: np.random.Generator, dialled: tuple[Ints, Ints, int]
) -> tuple[Ints, Ints]:
    """The honest dials that find a place, among those of sybils."""
    dialler, target, honest = dialled
    sybils = np.repeat(np.arange(honest), draw.poisson(_dials(overlay, adversary)[1], honest))
    target = np.concatenate([target, sybils])
    dialler = np.concatenate([dialler, np.full(len(sybils), -1)])
    order = np.lexsort((draw.random(len(target)), target))
    target, dialler = target[order], dialler[order]
    rank = np.arange(len(target)) - np.searchsorted(target, target)
    keeps = (rank < overlay.most - overlay.outbound) & (dialler >= 0)
    return dialler[keeps], target[keeps]


def relax(mesh: Mesh, times: Floats) -> Floats:
    """The earliest times at which everybody has a message that some have at `times` (∞: never)."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import dijkstra

    holders = np.flatnonzero(np.isfinite(times))
    size, base = mesh.honest + 1, float(times[holders].min())
    # one more vertex, from which each holder is as far as it holds the message late; +1 since 0 is no edge
    weights = np.concatenate([mesh.latency_ms, times[holders] - base + 1])
    rows = np.concatenate([mesh.sources, np.full(len(holders), mesh.honest)])
    graph = csr_matrix((weights, (rows, np.concatenate([mesh.targets, holders]))), shape=(size, size))
    reached: Floats = dijkstra(graph, indices=mesh.honest)[: mesh.honest] + (base - 1)
    return reached
