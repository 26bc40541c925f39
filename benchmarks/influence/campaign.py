"""The parts of the attribution benchmark; each leaves a file, and one that is there is not measured again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ..child import note
from ..machine import load_average
from .attack_part import measure_attacks
from .batched import batched_index, noise_table
from .early_part import COMPARED, measure_real_windows, measure_windows
from .faithful import compare, trained
from .families import FAMILIES
from .families_part import measure_family
from .measured_part import NAMES, measure_measurement
from .methods import OWN
from .order_part import measure_order
from .ours import Setting
from .peers import ARMS
from .real_families import LESSONS, Family, measure_real_family
from .recheck_part import measure_checks, measure_cost
from .rule import rule_of
from .settings import ABLATIONS, CHOICES, FORMS, OURS
from .sorted_part import measure_sorted
from .starter import SIZES as STARTER
from .starter import starter_world
from .truth import ground_truth
from .world import Sizes, World, six_contributors

Message = dict[str, Any]
Job = tuple[str, Callable[[], Message]]
REPORTED = (201, 202, 203)
DEVELOPMENT: Mapping[int, int] = {101: 1, 102: 3}
"""Seeds on which settings are chosen, and their bases; REPORTED have REPORTED_BASE."""
REPORTED_BASE = 2
ORDERS = {101: 2}
"""In how many orders the subsets of contributors were trained, where it was not one."""
PARTS = (
    *("choice", "windows", "six", "forms", "order", "attacks", "sorted", "families", "real_families"),
    *("starter", "measured", "checks", "cost"),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, where it is kept, on which seeds, and whether with peers."""

    keep: Path
    parts: tuple[str, ...] = PARTS
    seeds: tuple[int, ...] = REPORTED
    development: tuple[int, ...] = tuple(DEVELOPMENT)
    arms: bool = True
    sizes: Sizes = field(default_factory=Sizes)
    development_halves: int = 24
    starter: str = "starter"
    starter_sizes: Sizes = STARTER
    family_sizes: tuple[int, int] = (20, 3)
    real_family_sizes: tuple[int, int] = (10, 2)
    repeats: int = 1_000
    slow_attacked: bool = False
    train_steps: int = 40
    measurements: int = 3

    def six(self, seed: int) -> World:
        """Six contributors."""
        return six_contributors(self.keep, seed, self.sizes, DEVELOPMENT.get(seed, REPORTED_BASE))

    def attack_arms(self) -> tuple[str, ...]:
        """Peers that are attacked; the slowest only if asked for, as they take minutes for each world."""
        return tuple(name for name, arm in ARMS.items() if self.arms and arm.pace < 3 + self.slow_attacked)

    def chosen_arms(self, seed: int | None = None) -> tuple[str, ...]:
        """Peers on a seed: the slowest on the first only; without a seed those that are tried everywhere."""
        if not self.arms:
            return ()
        pace = 1 if seed is None else 3 if seed == self.seeds[0] else 2
        return tuple(name for name, arm in ARMS.items() if arm.pace <= pace)


def run(plan: Plan) -> dict[str, Message]:
    """Every part's messages by name, those too that were kept from earlier runs."""
    for part in plan.parts:
        for name, measure in _JOBS[part](plan):
            _kept(plan, name, measure)
    return {path.stem: json.loads(path.read_text()) for path in sorted(_results(plan).glob("*.json"))}


def _results(plan: Plan) -> Path:
    folder = plan.keep / "results"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _kept(plan: Plan, name: str, measure: Callable[[], Message]) -> None:
    path = _results(plan) / f"{name}.json"
    if path.exists():
        return
    note(f"measuring {name}")
    began, load = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), load_average()
    message = measure() | {"measured": {"date": began, "load_before": load, "load_after": load_average()}}
    partly = path.with_suffix(".partial")
    partly.write_text(json.dumps(message))
    partly.rename(path)


def _choice(plan: Plan) -> Iterator[Job]:
    for seed in plan.development:

        def measure(seed: int = seed) -> Message:
            world = plan.six(seed)
            truth = ground_truth(world, plan.development_halves)
            index = batched_index(trained(world), Setting())
            noise = {"noise": noise_table(index, world.owner, truth)}
            return compare(world, truth, OURS, ("ekfac-full",), (), CHOICES).message() | noise

        yield f"choice-{seed}", measure


def _windows(plan: Plan) -> Iterator[Job]:
    for seed in plan.development:

        def measure(seed: int = seed) -> Message:
            world = plan.six(seed)
            truth = ground_truth(world, plan.development_halves, ORDERS.get(seed, 1))
            return measure_windows(world, truth) | {"truth": truth.message()}

        yield f"windows-{seed}", measure
    for seed in plan.seeds:

        def measure_again(seed: int = seed) -> Message:
            world = plan.six(seed)
            return measure_windows(world, ground_truth(world, plan.sizes.halves), COMPARED)

        yield f"windows-{seed}", measure_again
    for name, seed in ("icd10", plan.seeds[0]), ("cwe", plan.development[0]):

        def measure_real(name: str = name, seed: int = seed) -> Message:
            world = starter_world(plan.keep, seed, plan.starter, plan.starter_sizes, name)
            return measure_real_windows(world, ground_truth(world, plan.starter_sizes.halves))

        yield f"windows-{name}", measure_real


def _six(plan: Plan) -> Iterator[Job]:
    for seed in plan.seeds:

        def measure(seed: int = seed) -> Message:
            world = plan.six(seed)
            truth = ground_truth(world, plan.sizes.halves)
            table = compare(world, truth, OURS, OWN, plan.chosen_arms(seed), ABLATIONS)
            return table.message() | {"truth": truth.message()}

        yield f"six-{seed}", measure


def _forms(plan: Plan) -> Iterator[Job]:
    for seed in plan.seeds:

        def measure(seed: int = seed) -> Message:
            world = plan.six(seed)
            truth = ground_truth(world, plan.sizes.halves)
            return compare(world, truth, {}, (), (), FORMS).message()

        yield f"forms-{seed}", measure


def _order(plan: Plan) -> Iterator[Job]:
    for seed in plan.seeds:

        def measure(seed: int = seed) -> Message:
            world = plan.six(seed)
            return measure_order(world, ground_truth(world, plan.sizes.halves))

        yield f"order-{seed}", measure


def _attacks(plan: Plan) -> Iterator[Job]:
    for seed in plan.seeds:

        def measure(seed: int = seed) -> Message:
            world, first = plan.six(seed), seed == plan.seeds[0]
            return measure_attacks(world, rule_of(world), plan.attack_arms() if first else None)

        yield f"attacks-{seed}", measure


def _sorted(plan: Plan) -> Iterator[Job]:
    for seed in plan.seeds:
        yield f"sorted-{seed}", lambda seed=seed: measure_sorted(plan.six(seed))


def _families(plan: Plan) -> Iterator[Job]:
    for family in FAMILIES:
        yield (
            f"family-{family}",
            lambda family=family: measure_family(
                plan.keep, (family, plan.seeds[0]), plan.family_sizes, 2, plan.chosen_arms()
            ),
        )


def _real_families(plan: Plan) -> Iterator[Job]:
    for name, form in product(FAMILIES, LESSONS):
        family = Family(name, plan.seeds[0], plan.real_family_sizes, plan.starter)
        yield (
            f"real-family-{name}-{form}",
            lambda family=family, form=form: measure_real_family(plan.keep, family, form, plan.arms),
        )


def _starter(plan: Plan) -> Iterator[Job]:
    def measure() -> Message:
        world = starter_world(plan.keep, plan.seeds[0], plan.starter, plan.starter_sizes)
        truth = ground_truth(world, plan.starter_sizes.halves)
        own = [name for name in OWN if not name.startswith("ekfac")]  # minutes of eigenvectors, a gigabyte
        return compare(world, truth, OURS, own, plan.chosen_arms()).message() | {
            "sizes": asdict(plan.starter_sizes)
        }

    yield "starter", measure


def _measured(plan: Plan) -> Iterator[Job]:
    for number, name in product(range(plan.measurements), NAMES):
        named = name, number
        yield (
            f"measured-{name}-{number}",
            lambda named=named: measure_measurement(plan.keep, plan.starter, named, plan.train_steps),
        )


def _checks(plan: Plan) -> Iterator[Job]:
    for seed in plan.seeds:
        yield (
            f"checks-{seed}",
            lambda seed=seed: measure_checks(plan.six(seed), plan.repeats // len(plan.seeds) + 1),
        )


def _cost(plan: Plan) -> Iterator[Job]:
    def measure() -> Message:
        kept = [_results(plan) / f"checks-{seed}.json" for seed in plan.seeds]
        checks = [json.loads(path.read_text()) for path in kept if path.exists()]
        shares = np.concatenate([np.array(each["shares"]) for each in checks])
        world = starter_world(plan.keep, plan.seeds[0], plan.starter, plan.starter_sizes)
        return measure_cost(world, shares)

    yield "cost", measure


_JOBS: dict[str, Callable[[Plan], Iterator[Job]]] = {
    "choice": _choice,
    "windows": _windows,
    "six": _six,
    "forms": _forms,
    "order": _order,
    "attacks": _attacks,
    "sorted": _sorted,
    "families": _families,
    "real_families": _real_families,
    "starter": _starter,
    "measured": _measured,
    "checks": _checks,
    "cost": _cost,
}
