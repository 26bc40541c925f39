"""Everybody and everything that a run has names for: workers, payers, adapters with their authors and
contributors.

Addresses and ids are hashes of what they are for, so they are the same in every run; nobody here has a key,
because a simulation signs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np

from ...protocol.attribution.scoring import compute_weights
from ...protocol.content.manifests import Split
from ...protocol.content.splits import BASE_SPLIT, DEFAULT_SPLIT
from ...protocol.gossip.adverts import Rates
from ...protocol.ids import Address, Cid, PeerId, cid_of, keccak256
from ...protocol.receipts.credits import RolePayees
from ...protocol.receipts.records import Weight
from ..experiment.models import AdapterModel, Scenario
from .arrivals import Stream, generator, spread

BASE = cid_of(b"simulated base")
PLATFORM = Address(keccak256(b"platform")[:20])
WORK_POOL = Address(keccak256(b"work pool")[:20])
MOST_CONTRIBUTORS = 8
"""How many contributors one adapter has at most."""


@dataclass(frozen=True, slots=True)
class People:
    """Indexed by the workload's and the fleet's numbers. `speed_ppm` scales a worker's engine costs; an
    adapter's contributors are drawn when they are first asked for.
    """

    peers: tuple[PeerId, ...]
    lanes: tuple[Address, ...]
    owners: tuple[Address, ...]
    rates: tuple[Rates, ...]
    speed_ppm: tuple[int, ...]
    payers: tuple[Address, ...]
    adapters: tuple[Cid, ...]
    ranks: tuple[int, ...]
    contributors: int
    seed: int
    _weights: dict[int, tuple[Weight, ...]] = field(default_factory=dict)

    def split_of(self, adapter: int) -> Split:
        """How the price of an answer is divided; negative numbers are the base alone."""
        return DEFAULT_SPLIT if adapter >= 0 else BASE_SPLIT

    def payees_of(self, worker: int, adapter: int) -> RolePayees:
        """Who stands behind the roles of an answer."""
        author = account("author", adapter) if adapter >= 0 else None
        return RolePayees(PLATFORM, self.owners[worker], author, WORK_POOL)

    def weights_of(self, adapter: int) -> tuple[Weight, ...]:
        """The contributors' weights of an answer, none for the base alone."""
        if adapter < 0:
            return ()
        if adapter not in self._weights:
            self._weights[adapter] = _draw_weights(self.contributors, self.seed, adapter)
        return self._weights[adapter]


@cache
def account(kind: str, number: int) -> Address:
    """The one address of that name."""
    return Address(keccak256(f"{kind} {number}".encode())[:20])


def draw_people(scenario: Scenario, seed: int) -> People:
    """Who takes part in a run."""
    workers, work = scenario.workers, scenario.work
    count = workers.count
    draw = generator(seed, Stream.SPEEDS)
    speeds = spread(draw, 1e6, workers.speed_sigma, count)
    prices = spread(draw, 1e6, workers.price_sigma, count)
    if workers.mix:
        speeds = _mixed(workers.mix, draw, speeds)
    return People(
        peers=tuple(PeerId(f"worker{number:05d}") for number in range(count)),
        lanes=tuple(account("lane", number) for number in range(count)),
        owners=tuple(account("owner", number) for number in range(count)),
        rates=tuple(_rates(scenario, price_ppm) for price_ppm in prices),
        speed_ppm=tuple(speeds),
        payers=tuple(account("payer", number) for number in range(work.payers)),
        adapters=tuple(cid_of(f"adapter {number}".encode()) for number in range(scenario.adapters.count)),
        ranks=_ranks(scenario.adapters, seed),
        contributors=scenario.adapters.contributors,
        seed=seed,
    )


def _ranks(adapters: AdapterModel, seed: int) -> tuple[int, ...]:
    """Each adapter's rank; 0 where nobody asks."""
    if not adapters.ranks:
        return (0,) * adapters.count
    shares = np.array([share for share, _ in adapters.ranks])
    draw = generator(seed, Stream.RANKS)
    chosen = draw.choice(len(shares), adapters.count, p=shares / shares.sum())
    return tuple(int(adapters.ranks[each][1]) for each in chosen)


def _mixed(mix: tuple[tuple[float, float], ...], draw: np.random.Generator, speeds: list[int]) -> list[int]:
    """Each worker's factor of time, that of its class of machines included."""
    shares = np.array([share for share, _ in mix])
    classes = draw.choice(len(mix), len(speeds), p=shares / shares.sum())
    return [max(1, int(speed * mix[each][1])) for speed, each in zip(speeds, classes, strict=True)]


def _rates(scenario: Scenario, price_ppm: int) -> Rates:
    plain = (
        scenario.workers.prompt_per_1000,
        scenario.workers.output_per_1000,
        scenario.workers.request_fee,
    )
    return Rates(*(rate * price_ppm // 1_000_000 for rate in plain))


def _draw_weights(contributors: int, seed: int, number: int) -> tuple[Weight, ...]:
    """What attribution gives an adapter's contributors for every answer: their scores are exponential, few
    matter much. Their weights are the protocol's.
    """
    draw = generator(seed, Stream.PEOPLE, number)
    count = int(draw.integers(1, min(MOST_CONTRIBUTORS, contributors) + 1))
    chosen = draw.choice(contributors, count, replace=False)
    scores = [1 + int(score) for score in draw.exponential(1_000_000, count)]
    weights = compute_weights(scores, [account("contributor", int(each)) for each in chosen])
    return weights or ()
