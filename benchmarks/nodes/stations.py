"""Fetching and gossip between stations, peers of the network alone: each a process, all on loopback."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..child import Child, ChildFailed, Message, cpu_seconds, open_child
from ..figures import Figure, median, percentile

PROVIDERS = 3
MEETING_LIMIT_S = 60.0
PIECE = 1 << 20
QUIET_WINDOW_S = 2.0
QUIET_SHARE = 0.02
"""Of a processor, for each peer: heartbeats and little else."""


@dataclass(frozen=True, slots=True)
class StationsPlan:
    """How much to measure: a blob of `blob_mib` fetched `fetches` times each way; `peers` announcing
    `per_second` adverts in total for `seconds`.
    """

    blob_mib: int = 64
    fetches: int = 5
    peers: int = 10
    per_second: float = 5.0
    seconds: float = 40.0
    settling_s: float = 30.0
    """At most, for peers that have just met; 0 begins at once."""
    grace_s: float = 5.0
    """After the last announcement: what has not come by then is lost."""


@dataclass(slots=True)
class Fetches:
    """MB/s to disk by number of providers, a round each; CPU seconds of both ends for one provider."""

    mb_s: dict[int, list[float]] = field(default_factory=lambda: {1: [], PROVIDERS: []})
    fetching_cpu_s: list[float] = field(default_factory=list)
    providing_cpu_s: list[float] = field(default_factory=list)
    blob_mb: float = 0.0

    def figures(self) -> dict[str, Figure]:
        """By the keys of the result."""
        return {f"fetch_mb_s_{count}": median(rounds) for count, rounds in self.mb_s.items()}

    def detail(self) -> Message:
        """What a processor could do: MB for a second of its time, at either end."""
        return {
            "fetch_mb_per_cpu_s_fetching": median([self.blob_mb / used for used in self.fetching_cpu_s]),
            "fetch_mb_per_cpu_s_providing": median([self.blob_mb / used for used in self.providing_cpu_s]),
        }


@dataclass(slots=True)
class Gossiped:
    """How many (message, peer) pairs there were to deliver, and how long each delivery took."""

    expected: int
    latencies_ms: list[float]
    cpu_ms: float
    """Of all peers together, for one delivery, their heartbeats included."""
    idle_share: float
    """Of a processor that a peer takes which hears nothing."""

    def figures(self) -> dict[str, Figure]:
        """By the keys of the result."""
        share = len(self.latencies_ms) / self.expected
        low, high = min(self.latencies_ms), max(self.latencies_ms)
        return {
            "gossip_delivered": Figure(share, share, share),
            "gossip_ms_p50": Figure(
                percentile(self.latencies_ms, 50), low, percentile(self.latencies_ms, 90)
            ),
            "gossip_ms_p99": Figure(
                percentile(self.latencies_ms, 99), percentile(self.latencies_ms, 95), high
            ),
        }

    def detail(self) -> Message:
        """What explains the figures."""
        return {
            "gossip_deliveries": self.expected,
            "gossip_cpu_ms_per_delivery": self.cpu_ms,
            "gossip_idle_processor_share_of_a_peer": self.idle_share,
        }


def measure_stations(plan: StationsPlan, folder: Path) -> tuple[Fetches, Gossiped]:
    """Start some, fetch; start the rest, gossip. Raises ChildFailed."""
    with ExitStack() as stack:
        stations = [stack.enter_context(_open_station(folder, 0, ()))]
        first = stations[0].wait_ready()["address"]

        def start(total: int) -> None:
            new = range(len(stations), total)
            stations.extend(stack.enter_context(_open_station(folder, number, (first,))) for number in new)
            for station in stations:
                station.wait_ready()

        start(1 + PROVIDERS)
        fetches = _fetch(plan, stations[0], stations[1 : 1 + PROVIDERS], folder / "blob")
        start(max(plan.peers, len(stations)))
        return fetches, _gossip(plan, stations[: plan.peers])


@contextmanager
def _open_station(folder: Path, number: int, bootstrap: tuple[str, ...]) -> Iterator[Child]:
    order = {"store": str(folder / f"station-{number}"), "bootstrap": bootstrap}
    with open_child("nodes.station", order, folder) as child:
        yield child


# ---- fetching


def _fetch(plan: StationsPlan, fetching: Child, providers: list[Child], blob: Path) -> Fetches:
    with blob.open("wb") as file:
        for _ in range(plan.blob_mib):
            file.write(os.urandom(PIECE))
    size = blob.stat().st_size
    cids = {provider.ask({"do": "keep", "path": str(blob)})["cid"] for provider in providers}
    blob.unlink()
    order = {"do": "fetch", "cid": cids.pop(), "size": size}
    fetches = Fetches(blob_mb=size / 1e6)
    _timed_fetch(order, fetching, providers)  # connections, caches
    for _ in range(plan.fetches):
        seconds, fetching_cpu, providing_cpu = _timed_fetch(order, fetching, providers[:1])
        fetches.mb_s[1].append(fetches.blob_mb / seconds)
        fetches.fetching_cpu_s.append(fetching_cpu)
        fetches.providing_cpu_s.append(providing_cpu)
        seconds, _, _ = _timed_fetch(order, fetching, providers)
        fetches.mb_s[PROVIDERS].append(fetches.blob_mb / seconds)
    return fetches


def _timed_fetch(order: Message, fetching: Child, providers: list[Child]) -> tuple[float, float, float]:
    """Wall seconds, and CPU seconds of the fetching and the first providing process."""
    pids = (fetching.process.pid, providers[0].process.pid)
    before = [cpu_seconds(pid) for pid in pids]
    said = fetching.ask(order | {"providers": [provider.wait_ready()["address"] for provider in providers]})
    used = [max(0.01, cpu_seconds(pid) - was) for pid, was in zip(pids, before, strict=True)]
    return said["seconds"], used[0], used[1]


# ---- gossip


def _gossip(plan: StationsPlan, stations: list[Child]) -> Gossiped:
    _meet(stations)
    idle = _settle(stations, plan.settling_s) if plan.settling_s else 0.0
    count = max(1, round(plan.seconds * plan.per_second / len(stations)))
    interval = len(stations) / plan.per_second
    start = time.monotonic() + 1
    end = start + count * interval + plan.grace_s
    before = _cpu(stations)
    for number, station in enumerate(stations):
        own = start + number * interval / len(stations)
        station.tell({"do": "gossip", "start": own, "interval": interval, "count": count, "end": end})
    reports = [station.hear() for station in stations]
    used = _cpu(stations) - before
    sent = {(report["peer"], seq): at for report in reports for seq, at in report["sent"]}
    latencies = [
        1000 * (at - sent[peer, seq])
        for report in reports
        for peer, seq, at in report["heard"]
        if peer != report["peer"] and (peer, seq) in sent
    ]
    deliveries = len(sent) * (len(stations) - 1)
    return Gossiped(deliveries, latencies, 1000 * used / max(1, len(latencies)), idle / len(stations))


def _settle(stations: list[Child], limit_s: float) -> float:
    """Wait until those who have just met are quiet: they identify and reconcile each with each. Gives the
    processors that they then take together.
    """
    deadline = time.monotonic() + limit_s
    while True:
        before, started = _cpu(stations), time.monotonic()
        time.sleep(QUIET_WINDOW_S)
        busy = (_cpu(stations) - before) / (time.monotonic() - started)
        if busy < QUIET_SHARE * len(stations) or time.monotonic() > deadline:
            return busy


def _cpu(stations: list[Child]) -> float:
    return sum(cpu_seconds(station.process.pid) for station in stations)


def _meet(stations: list[Child]) -> None:
    """Until everybody has heard of everybody. Raises ChildFailed."""
    deadline = time.monotonic() + MEETING_LIMIT_S
    while time.monotonic() < deadline:
        for station in stations:
            station.tell({"do": "meet"})
        heard = [station.hear()["heard"] for station in stations]
        if min(heard) == len(stations) - 1:
            return
        time.sleep(1.0)
    raise ChildFailed(f"{len(stations)} peers did not hear of each other within {MEETING_LIMIT_S:.0f} s")
