"""What the scheduler's core costs an ask: `python -m benchmarks.scheduling [--json] [--profile]`.

The smallest driver there can be (a heap of arrivals, first tokens and ends, with drawn service times in the
place of engines), so that what is measured is `step`. Workers are loaded to half of their batches, adapters
are asked for by Zipf's law, adverts come at the interval that keeps a topic below five a second.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import random
import resource
import time
from dataclasses import dataclass
from heapq import heappop, heappush

from commonlore.protocol.content.splits import BASE_SPLIT
from commonlore.protocol.gossip.adverts import Rates
from commonlore.protocol.ids import Address, PeerId, cid_of
from commonlore.scheduler.core import Scheduler, SchedulerConfig
from commonlore.scheduler.events import (
    AdvertSeen,
    AskArrived,
    AskSpec,
    Completed,
    Dispatch,
    Progress,
    Wake,
)
from commonlore.scheduler.policies import DEFAULT_POLICY
from commonlore.scheduler.view import WorkerView

BASE = cid_of(b"base")
BATCH, SERVICE_MS, FIRST_MS, TOKENS = 8, 5_000, 300, 40
NOW_MS = 1_700_000_000_000
NOBODY = PeerId("")
ARRIVAL, FIRST, WHOLE, ADVERT = range(4)


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. `step_s` is the time inside the core, `seconds` all of it, both of the processor."""

    peers: int
    asks: int
    policy: str
    seconds: float
    step_s: float
    asks_per_s: float
    core_us_per_ask: float
    peak_mb: float


def worker(number: int, seq: int, now_ms: int, held: tuple[str, ...]) -> WorkerView:
    return WorkerView(
        peer=PeerId(f"worker{number:06d}"),
        lane=Address(number.to_bytes(20, "big")),
        base=BASE,
        artefact=BASE,
        rates=Rates(1000, 4000, 10),
        split=BASE_SPLIT,
        max_context=8192,
        max_batch=BATCH,
        max_rank=64,
        queue_depth=0,
        running=0,
        free_pages=0,
        resident=held,
        resident_count=len(held),
        addresses=(),
        key_expires_ms=1 << 62,
        seq=seq,
        issued_ms=now_ms,
        seen_ms=now_ms,
    )


class Drive:
    """A run under way: the heap, and what workers hold by having been asked."""

    def __init__(self, peers: int, asks: int, policy: str) -> None:
        self.peers, self.asks = peers, asks
        config = SchedulerConfig(
            policy=policy, max_workers=2 * peers, max_asks=1 << 30, advert_lifetime_ms=1 << 40
        )
        self.scheduler = Scheduler(config, 1)
        self.rng = random.Random(1)
        self.names = [cid_of(f"adapter {number}".encode()) for number in range(10 * 1000)]
        self.adapters = self.rng.choices(self.names, [1 / (1 + n) for n in range(len(self.names))], k=asks)
        self.gap_us = 1000 * SERVICE_MS * 2 // (peers * BATCH)
        self.number_of = {PeerId(f"worker{number:06d}"): number for number in range(peers)}
        self.held: list[dict[str, None]] = [{} for _ in range(peers)]
        self.heap: list[tuple[int, int, int, int, PeerId]] = []
        self.count = self.done = self.refused = 0
        self.step_s = 0.0
        self.now_us = 0

    def run(self) -> None:
        for number in range(self.peers):
            self.step(AdvertSeen(worker(number, 1, NOW_MS, ())))
        self.step_s = 0.0
        self.plan(0, ARRIVAL, 0)
        self.plan(200_000, ADVERT, 0)
        while self.heap and self.done < self.asks:
            self.now_us, _, kind, number, peer = heappop(self.heap)
            if kind == ARRIVAL:
                self.arrive(number)
            elif kind == FIRST:
                self.step(Progress(number, peer, 1))
            elif kind == WHOLE:
                self.done += 1
                self.step(Completed(number, peer, FIRST_MS, SERVICE_MS, TOKENS))
            else:
                self.advertise(number)

    def arrive(self, number: int) -> None:
        if number + 1 < self.asks:
            self.plan(self.gap_us, ARRIVAL, number + 1)
        spec = AskSpec(number, BASE, (self.adapters[number],), 100, 64, 10**9, self.now_ms + 60_000)
        self.step(AskArrived(spec))

    def advertise(self, number: int) -> None:
        """Five workers a second, each in its turn."""
        self.plan(200_000, ADVERT, (number + 1) % self.peers)
        held = tuple(list(self.held[number])[-16:])
        self.step(AdvertSeen(worker(number, 2 + self.now_us, self.now_ms, held)))

    @property
    def now_ms(self) -> int:
        return NOW_MS + self.now_us // 1000

    def plan(self, delay_us: int, kind: int, number: int, peer: PeerId = NOBODY) -> None:
        self.count += 1
        heappush(self.heap, (self.now_us + delay_us, self.count, kind, number, peer))

    def step(self, event: object) -> None:
        began = time.thread_time()
        actions = self.scheduler.step(self.now_ms, event)
        self.step_s += time.thread_time() - began
        for action in actions:
            match action:
                case Dispatch(ask_id, peer):
                    first_us = int(self.rng.expovariate(1 / (FIRST_MS * 1000)))
                    self.plan(first_us, FIRST, ask_id, peer)
                    whole_us = first_us + int(self.rng.expovariate(1 / (SERVICE_MS * 1000)))
                    self.plan(whole_us, WHOLE, ask_id, peer)
                    self.hold(self.number_of[peer], self.adapters[ask_id])
                case Wake():
                    pass
                case _:
                    self.refused += 1

    def hold(self, number: int, adapter: str) -> None:
        held = self.held[number]
        held.pop(adapter, None)
        held[adapter] = None
        if len(held) > 16:
            del held[next(iter(held))]


def measure(peers: int, asks: int, policy: str) -> Measured:
    """One run with this policy."""
    drive = Drive(peers, asks, policy)
    began = time.thread_time()
    drive.run()
    seconds = time.thread_time() - began
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Measured(
        peers,
        asks,
        policy,
        round(seconds, 2),
        round(drive.step_s, 2),
        round(asks / seconds),
        round(1e6 * drive.step_s / asks, 1),
        round(peak_mb),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--asks", type=int, default=100_000)
    parser.add_argument("--policy", nargs="+", default=[DEFAULT_POLICY])
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows: list[Measured] = []
    for policy in given.policy:
        for peers in given.peers:
            if given.profile:
                profile = cProfile.Profile()
                profile.enable()
            rows.append(measure(peers, given.asks, policy))
            if given.profile:
                profile.disable()
                pstats.Stats(profile).sort_stats("tottime").print_stats(25)
            print(rows[-1], flush=True)
    if given.json:
        print(json.dumps({"scheduling": [vars_of(row) for row in rows]}))


def vars_of(row: Measured) -> dict[str, object]:
    return {name: getattr(row, name) for name in row.__slots__}


if __name__ == "__main__":
    main()
