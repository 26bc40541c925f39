"""Everybody and everything that a run has names for: workers, payers, adapters with their authors and
contributors.

Addresses and ids are hashes of what they are for, so they are the same in every run; nobody here has a key,
because a simulation signs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..protocol.adverts import Rates
from ..protocol.attribution import compute_weights
from ..protocol.credits import BASE_SPLIT, DEFAULT_SPLIT, RolePayees
from ..protocol.ids import Address, Cid, PeerId, cid_of, keccak256
from ..protocol.manifests import Split
from ..protocol.receipts import Weight
from .scenario import Scenario
from .workload import Stream, generator, spread

BASE = cid_of(b"simulated base")
PLATFORM = Address(keccak256(b"platform")[:20])
WORK_POOL = Address(keccak256(b"work pool")[:20])
MOST_CONTRIBUTORS = 8
"""How many contributors one adapter has at most."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter's id, its author, and what attribution gives its contributors for every answer."""

    adapter: Cid
    author: Address
    weights: tuple[Weight, ...]


@dataclass(frozen=True, slots=True)
class People:
    """Indexed by the workload's and the fleet's numbers. `speed_ppm` scales a worker's engine costs."""

    peers: tuple[PeerId, ...]
    lanes: tuple[Address, ...]
    owners: tuple[Address, ...]
    rates: tuple[Rates, ...]
    speed_ppm: tuple[int, ...]
    payers: tuple[Address, ...]
    adapters: tuple[Adapter, ...]

    def split_of(self, adapter: int) -> Split:
        """How the price of an answer is divided; negative numbers are the base alone."""
        return DEFAULT_SPLIT if adapter >= 0 else BASE_SPLIT

    def payees_of(self, worker: int, adapter: int) -> RolePayees:
        """Who stands behind the roles of an answer."""
        author = self.adapters[adapter].author if adapter >= 0 else None
        return RolePayees(PLATFORM, self.owners[worker], author, WORK_POOL)

    def weights_of(self, adapter: int) -> tuple[Weight, ...]:
        """The contributors' weights of an answer, none for the base alone."""
        return self.adapters[adapter].weights if adapter >= 0 else ()


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
    return People(
        peers=tuple(PeerId(f"worker{number:05d}") for number in range(count)),
        lanes=tuple(account("lane", number) for number in range(count)),
        owners=tuple(account("owner", number) for number in range(count)),
        rates=tuple(_rates(scenario, price_ppm) for price_ppm in prices),
        speed_ppm=tuple(speeds),
        payers=tuple(account("payer", number) for number in range(work.payers)),
        adapters=tuple(_adapter(scenario, seed, number) for number in range(work.adapters)),
    )


def _rates(scenario: Scenario, price_ppm: int) -> Rates:
    plain = (
        scenario.workers.prompt_per_1000,
        scenario.workers.output_per_1000,
        scenario.workers.request_fee,
    )
    return Rates(*(rate * price_ppm // 1_000_000 for rate in plain))


def _adapter(scenario: Scenario, seed: int, number: int) -> Adapter:
    """An adapter whose contributors' scores are exponential: few matter much.

    Their weights are the protocol's.
    """
    draw = generator(seed, Stream.PEOPLE, number)
    count = int(draw.integers(1, min(MOST_CONTRIBUTORS, scenario.work.contributors) + 1))
    chosen = draw.choice(scenario.work.contributors, count, replace=False)
    scores = [1 + int(score) for score in draw.exponential(1_000_000, count)]
    weights = compute_weights(scores, [account("contributor", int(each)) for each in chosen])
    return Adapter(cid_of(f"adapter {number}".encode()), account("author", number), weights or ())
