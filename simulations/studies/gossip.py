"""The kind `gossip`: how far an announcement comes, how soon, and at what cost, with sybils and churn.

GossipSub as this project runs it: a message is passed on at once to the mesh; at each heartbeat, for a few of
them, a peer tells `lazy_degree` random others what it has, who ask for what they lack. Nothing of the real
gossip runs here: this is its graph, in arrays, at sizes that cannot be started.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..experiment.figures import Figures, Panel
from ..experiment.kinds import Kind, Outcome, Scalar
from ..experiment.measures import Floats, percentile
from ..experiment.tables import between, within
from ..workload.arrivals import Stream, generator
from .overlay import Adversary, Mesh, Overlay, check_overlay, draw_mesh, eclipse_probability, relax

MOST_TIMES = 50_000_000
ROUND_TRIP = 3
"""Latencies from telling to having: I have, I want, the message."""


@dataclass(frozen=True, slots=True)
class Gossip:
    """`messages` are announced by honest peers at random; IHAVE goes out for `history` heartbeats."""

    messages: int = between(1, 10_000, 8)
    lazy_degree: int = between(0, 128, 6)
    heartbeat_ms: float = between(1, 3_600_000, 1_000.0)
    history: int = between(0, 100, 3)


@dataclass(frozen=True, slots=True)
class GossipScenario:
    """Everything a gossip run follows from, but the seed."""

    name: str
    about: str
    overlay: Overlay = field(default_factory=Overlay)
    adversary: Adversary = field(default_factory=Adversary)
    gossip: Gossip = field(default_factory=Gossip)


def check_gossip(scenario: GossipScenario) -> None:
    """Raises WrongKey."""
    check_overlay(scenario.overlay, scenario.adversary)
    times = scenario.overlay.peers * scenario.gossip.messages
    within("gossip.messages", times, MOST_TIMES, "times of arrival")
    told = scenario.overlay.peers * scenario.gossip.lazy_degree
    within("gossip.lazy_degree", told, MOST_TIMES, "announcements a heartbeat")


def run_gossip(scenario: GossipScenario, seed: int) -> Outcome:
    """One arm with one seed."""
    mesh = draw_mesh(scenario.overlay, scenario.adversary, generator(seed, Stream.PLACES))
    draw = generator(seed, Stream.ARRIVALS)
    spread = [_spread(scenario, mesh, draw) for _ in range(scenario.gossip.messages)]
    eager, whole = (np.array([each[at] for each in spread]) for at in (0, 1))
    return Outcome(
        _summary(scenario, mesh, eager, whole), {"messages": _rows(eager, whole)}, events=int(whole.size)
    )


def _spread(scenario: GossipScenario, mesh: Mesh, draw: np.random.Generator) -> tuple[Floats, Floats]:
    """When everybody has one message (∞: never), by the mesh alone and with what heartbeats repair."""
    times = np.full(mesh.honest, np.inf)
    times[draw.integers(mesh.honest)] = 0.0
    eager = relax(mesh, times)
    whole = eager
    for heartbeat in range(scenario.gossip.history):
        told = _told(scenario, mesh, draw, (whole, heartbeat))
        if (told < whole).any():
            whole = relax(mesh, np.minimum(whole, told))
    return eager, whole


def _told(
    scenario: GossipScenario, mesh: Mesh, draw: np.random.Generator, state: tuple[Floats, int]
) -> Floats:
    """When each peer could have the message because somebody told it at this heartbeat."""
    (times, heartbeat), overlay, gossip = state, scenario.overlay, scenario.gossip
    holders = np.flatnonzero(np.isfinite(times))
    targets = draw.integers(0, overlay.peers, (len(holders), gossip.lazy_degree))
    at = times[holders] + gossip.heartbeat_ms * (heartbeat + draw.random(len(holders)))
    latency = overlay.latency_ms * np.exp(overlay.latency_sigma * draw.standard_normal(targets.shape))
    arrivals = at[:, None] + ROUND_TRIP * latency
    met = targets < mesh.honest
    told = np.full(mesh.honest, np.inf)
    np.minimum.at(told, targets[met], arrivals[met])
    return told


def _summary(scenario: GossipScenario, mesh: Mesh, eager: Floats, whole: Floats) -> dict[str, Scalar]:
    reached = np.isfinite(whole)
    delays = whole[reached & (whole > 0)]
    return {
        "peers": scenario.overlay.peers,
        "honest": mesh.honest,
        "coverage": round(float(reached.mean()), 6),
        "coverage_worst": round(float(reached.mean(axis=1).min()), 6),
        "coverage_eager": round(float(np.isfinite(eager).mean()), 6),
        "delay_p50_ms": round(percentile(delays, 50), 3),
        "delay_p99_ms": round(percentile(delays, 99), 3),
        "duplicates": round(_duplicates(mesh, eager), 6),
        "eclipsed": round(mesh.eclipsed / mesh.honest, 6),
        "eclipse_expected": round(eclipse_probability(scenario.overlay, scenario.adversary), 6),
    }


def _duplicates(mesh: Mesh, eager: Floats) -> float:
    """Copies beyond the first for each peer that the mesh reached: everybody passes a message on to all
    neighbours but the one it came from."""
    reached = np.isfinite(eager)
    deliveries = int(reached.sum()) - len(eager)
    sent = int((reached * mesh.degrees).sum()) - deliveries
    return (sent - deliveries) / max(1, deliveries)


def _rows(eager: Floats, whole: Floats) -> dict[str, list[float]]:
    """A row a message."""
    delays = [each[np.isfinite(each) & (each > 0)] for each in whole]
    return {
        "message": list(range(len(whole))),
        "coverage": [round(float(np.isfinite(each).mean()), 6) for each in whole],
        "coverage_eager": [round(float(np.isfinite(each).mean()), 6) for each in eager],
        "delay_p50_ms": [round(percentile(each, 50), 3) for each in delays],
        "delay_p99_ms": [round(percentile(each, 99), 3) for each in delays],
    }


KIND = Kind(
    name="gossip",
    config=GossipScenario,
    run=run_gossip,
    packages=("scipy",),
    check=check_gossip,
    columns=("peers", "coverage", "coverage_eager", "delay_p50_ms", "delay_p99_ms", "duplicates", "eclipsed"),
    figures=Figures(
        x="adversary.sybil_share",
        panels=(
            Panel(
                "honest peers reached",
                ("coverage", "coverage_eager"),
                "share",
                names=("in all", "by the mesh"),
            ),
            Panel("delay", ("delay_p50_ms", "delay_p99_ms"), "ms", log=True),
            Panel("eclipsed", ("eclipsed", "eclipse_expected"), "share", names=("simulated", "closed form")),
            Panel("copies too many, a delivery", ("duplicates",)),
        ),
    ),
)
