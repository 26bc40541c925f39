"""The whole path of an answer against the bare engine: client node, libp2p, worker node, engine process,
receipt and voucher, with a chain behind the escrow; and TorchEngine alone. Both at one thread, on the
same questions, in turns.

What it cannot show: a network's distance (both peers are on this machine), and settling (no epoch ends
meanwhile).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from commonlore.peer.home import Home
from commonlore.peer.local.local_network import NetworkPlan, PeerPlan, hold_network
from commonlore.peer.local.processes import PeerProcess, without_settings, write_settings
from commonlore.worker.models.cache import default_cache_dir
from commonlore.worker.models.importing import import_base

from ..child import Child, ChildFailed, Message, cpu_seconds, note, open_child
from ..figures import Figure, median, percentile
from .load import Load

DEPOSIT = 10**12
ANSWER_TOKENS = 64
ENGINE_MODULE = "commonlore.worker.engine.process.serve"


@dataclass(frozen=True, slots=True)
class ServingPlan:
    """How much to measure. A round asks all once in both arms; rounds begin until `seconds` are over."""

    base: str = "starter"
    precision: str = "bf16"
    seconds: float = 240.0
    rounds: int = 3
    """At least."""
    probes: int = 40
    """Requests a round whose time to the first token is compared."""
    answer_tokens: int = ANSWER_TOKENS
    alone: int = 2
    together: int = 32
    short: int = 48
    chain: bool = True
    """Without one there is no escrow behind the vouchers: for a quick look only."""


@dataclass(slots=True)
class Arm:
    """One side: the process that is asked, and all the processes whose time it costs, by room."""

    child: Child
    rooms: dict[str, int]

    def run(self, load: Load) -> Sample:
        """Have a load answered."""
        before = {room: cpu_seconds(pid) for room, pid in self.rooms.items()}
        said = self.child.ask(load.order())
        cpu = {room: cpu_seconds(pid) - before[room] for room, pid in self.rooms.items()}
        return Sample(load, said["seconds"], said["tokens"], said["ttft_ms"], cpu)


@dataclass(frozen=True, slots=True)
class Sample:
    """One load in one arm: wall seconds, tokens, time to each first token, CPU seconds by room."""

    load: Load
    seconds: float
    tokens: int
    ttft_ms: list[float]
    cpu: dict[str, float]

    @property
    def tokens_per_s(self) -> float:
        """Throughput by the wall."""
        return self.tokens / self.seconds

    def cpu_ms_per_request(self, room: str) -> float:
        """Milliseconds of processor time that a request costs there."""
        return 1000 * self.cpu[room] / self.load.count

    def busy(self, room: str) -> float:
        """How much of a processor a room had."""
        return self.cpu[room] / self.seconds


@dataclass(slots=True)
class Pairs:
    """Samples of the two arms under the same load, one pair a round."""

    bare: list[Sample] = field(default_factory=list)
    path: list[Sample] = field(default_factory=list)

    def ratio(self) -> Figure:
        """The path's throughput by the bare engine's, round by round."""
        return median([p.tokens_per_s / b.tokens_per_s for p, b in zip(self.path, self.bare, strict=True)])

    def cpu(self) -> dict[str, Figure]:
        """CPU milliseconds a request in every room of both arms."""
        samples = (self.path, self.bare)
        return {
            room: median([sample.cpu_ms_per_request(room) for sample in arm])
            for arm in samples
            for room in arm[0].cpu
        }


@dataclass(slots=True)
class Serving:
    """Everything that was measured of serving."""

    probes: Pairs = field(default_factory=Pairs)
    alone: Pairs = field(default_factory=Pairs)
    together: Pairs = field(default_factory=Pairs)
    short: Pairs = field(default_factory=Pairs)

    def figures(self) -> dict[str, Figure]:
        """By the keys of the result."""
        added = [p.ttft_ms[0] - b.ttft_ms[0] for p, b in zip(self.probes.path, self.probes.bare, strict=True)]
        return {
            "ttft_added_ms_p50": Figure(percentile(added, 50), percentile(added, 25), percentile(added, 75)),
            "ttft_added_ms_p99": Figure(percentile(added, 99), percentile(added, 95), max(added)),
            "throughput_ratio_1": self.alone.ratio(),
            "throughput_ratio_8": self.together.ratio(),
            "requests_per_s_1token": median([s.load.count / s.seconds for s in self.short.path]),
        }

    def detail(self) -> Message:
        """What explains the figures."""
        return {
            "rounds": len(self.together.path),
            "ttft_pairs": len(self.probes.path),
            **{f"ttft_ms_{name}": _ttft(arm) for name, arm in self._arms("probes")},
            **{f"tokens_per_s_1_{name}": _speed(arm) for name, arm in self._arms("alone")},
            **{f"tokens_per_s_8_{name}": _speed(arm) for name, arm in self._arms("together")},
            "requests_per_s_1token_bare": median([s.load.count / s.seconds for s in self.short.bare]),
            "processor_share_8_bare_engine": median([s.busy("bare_engine") for s in self.together.bare]),
            "processor_share_8_engine_process": median(
                [s.busy("engine_process") for s in self.together.path]
            ),
            "cpu_ms_per_request_1token": self.short.cpu(),
        }

    def _arms(self, name: str) -> list[tuple[str, list[Sample]]]:
        pairs: Pairs = getattr(self, name)
        return [("bare", pairs.bare), ("path", pairs.path)]


def _ttft(arm: list[Sample]) -> Figure:
    values = [value for sample in arm for value in sample.ttft_ms]
    return Figure(percentile(values, 50), min(values), percentile(values, 99))


def _speed(arm: list[Sample]) -> Figure:
    return median([sample.tokens_per_s for sample in arm])


@dataclass(slots=True)
class Bench:
    """The two arms, and which question comes next."""

    plan: ServingPlan
    bare: Arm
    path: Arm
    asked: int = 0
    turn: int = 0

    def pair(self, pairs: Pairs, count: int, concurrency: int, max_tokens: int) -> None:
        """The same load in both arms; who begins alternates."""
        load = Load(self.asked, count, concurrency, max_tokens)
        self.asked, self.turn = self.asked + count, self.turn + 1
        arms = [(self.bare, pairs.bare), (self.path, pairs.path)]
        for arm, samples in arms if self.turn % 2 else reversed(arms):
            samples.append(arm.run(load))

    def round(self, result: Serving) -> None:
        """Everything once."""
        plan = self.plan
        for _ in range(plan.probes):
            self.pair(result.probes, 1, 1, 1)
        self.pair(result.alone, plan.alone, 1, plan.answer_tokens)
        self.pair(result.together, plan.together, 8, plan.answer_tokens)
        self.pair(result.short, plan.short, 8, 1)


def measure_serving(plan: ServingPlan, folder: Path) -> Serving:
    """Start both arms, let them take turns for the planned time, end them. Raises ChildFailed."""
    base = import_base(plan.base)
    result = Serving()
    with open_arms(plan, str(base.directory), folder) as bench:
        bench.pair(Pairs(), 8, 8, 8)
        started = time.monotonic()
        while len(result.together.path) < plan.rounds or time.monotonic() - started < plan.seconds:
            bench.round(result)
            kept = result.together.ratio().value
            note(f"round {len(result.together.path)}: {100 * kept:.0f} % of the bare throughput so far")
    return result


@contextmanager
def open_arms(plan: ServingPlan, base_dir: str, folder: Path) -> Iterator[Bench]:
    """Both arms, ready: the peers of the path, and the bare engine."""
    open_peers = _open_network if plan.chain else _open_pair
    with ExitStack() as stack:
        order = {"base_dir": base_dir, "precision": plan.precision}
        bare = stack.enter_context(open_child("nodes.bare", order, folder))
        peers = stack.enter_context(open_peers(plan, folder))
        asking = stack.enter_context(open_child("nodes.asking", peers.client, folder))
        rooms = {
            "client_node": asking.process.pid,
            "worker_node": peers.worker,
            "engine_process": _engine_of(peers.worker),
        }
        for child in (bare, asking):
            child.wait_ready()
        yield Bench(plan, Arm(bare, {"bare_engine": bare.process.pid}), Arm(asking, rooms))


@dataclass(frozen=True, slots=True)
class Peers:
    """A worker's process id, and the order that makes a client of an asking child."""

    worker: int
    client: Message


def _settings(plan: ServingPlan) -> dict[str, object]:
    cache = str(default_cache_dir())
    return {
        "base": plan.base,
        "precision": plan.precision,
        "threads": 1,
        "device": "cpu",
        "cache_dir": cache,
    }


@contextmanager
def _open_network(plan: ServingPlan, folder: Path) -> Iterator[Peers]:
    """A chain, a bootstrap peer and a worker; the client has a deposit."""
    peers = (
        PeerPlan("bootstrap", {"roles": ("bootstrap",)}),
        PeerPlan("worker", {"roles": ("worker",), "credit_limit": DEPOSIT}),
        PeerPlan("client", deposit=DEPOSIT),
    )
    settings = _settings(plan) | {"settle_interval_s": 86_400}
    with hold_network(NetworkPlan(folder / "net", peers, settings)) as network:
        network.start_chain()
        for peer in peers:
            network.fund(peer.name)
        network.start_peer("bootstrap").wait_ready()
        network.start_peer("worker").wait_ready()
        config = _settings(plan) | {
            "bootstrap": [network.peers["bootstrap"].ready.address],
            "chain_url": network.chain.url,
            "deployment": str(network.deployment_file),
        }
        client = {"home": str(network.home("client").path), "config": config}
        yield Peers(network.peers["worker"].process.pid, client)


@contextmanager
def _open_pair(plan: ServingPlan, folder: Path) -> Iterator[Peers]:
    """A worker that the client starts from, and nobody else."""
    home = Home(folder / "worker").create()
    settings = _settings(plan) | {"roles": ("worker",), "gateway_port": 0}
    write_settings(home.config, settings, "Written by the benchmark.")
    worker = PeerProcess("worker", home, without_settings(os.environ, settings))
    try:
        config = _settings(plan) | {"bootstrap": [worker.ready.address]}
        yield Peers(worker.process.pid, {"home": str(folder / "client"), "config": config})
    finally:
        worker.stop()


def _engine_of(worker: int) -> int:
    for process in psutil.Process(worker).children(recursive=True):
        if ENGINE_MODULE in process.cmdline():
            return int(process.pid)
    raise ChildFailed("the worker has no engine process")
