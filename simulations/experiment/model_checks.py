"""Values of a service scenario that do not go together, and sizes that no machine bears."""

from __future__ import annotations

from .drivers import check_driver
from .models import ChurnModel, Scenario
from .tables import WrongKey, within

MOST_ASKS = 20_000_000
"""At half a kilobyte each, more than most machines hold."""
MOST_PAIRS, MOST_PAIRED = 1_000, 1_000_000
MOST_LIVES = 2_000_000
MOST_LATENCIES = 10_000_000
MOST_STRETCHES = 1_000_000
"""Of time, in which the rate of arrivals differs."""


def check_scenario(scenario: Scenario) -> None:
    """Values that do not go together. Raises WrongKey."""
    if scenario.duration_ms <= scenario.warmup_ms:
        raise WrongKey("duration_ms", "duration_ms must be above warmup_ms")
    if scenario.work.start_ms >= scenario.duration_ms:
        raise WrongKey("work.start_ms", "work.start_ms must be below duration_ms")
    _check_sizes(scenario)
    if scenario.adapters.zipf is not None and scenario.adapters.power is not None:
        raise WrongKey("adapters.zipf", "give either adapters.zipf or adapters.power")
    _check_pairs("workers.mix", scenario.workers.mix, "factor of time")
    _check_pairs("adapters.ranks", scenario.adapters.ranks, "rank")
    if any(int(rank) != rank or rank > scenario.workers.max_rank for _, rank in scenario.adapters.ranks):
        raise WrongKey("adapters.ranks", "adapters.ranks holds whole ranks, at most workers.max_rank")
    _check_seats(scenario)
    check_driver(scenario)


def _check_sizes(scenario: Scenario) -> None:
    """What several keys give together."""
    work, workers, duration_ms = scenario.work, scenario.workers, scenario.duration_ms
    if not work.trace:
        within("work.rate_per_s", work.rate_per_s * duration_ms / 1000, MOST_ASKS, "asks")
    within("network.gateways", scenario.network.gateways * workers.count, MOST_LATENCIES, "latencies")
    if work.arrivals == "bursts":
        within("work.burst_ms", duration_ms / work.burst_ms, MOST_STRETCHES, "bursts")
    if work.diurnal:
        within("work.day_ms", 288 * duration_ms / work.day_ms, MOST_STRETCHES, "changes of rate")
    check_lives(scenario.churn, duration_ms, workers.count)


def check_lives(churn: ChurnModel, duration_ms: int, count: int) -> None:
    """Those who come and go must come back, and not too often. Raises WrongKey."""
    if not churn.mean_lifetime_ms:
        return
    if not churn.mean_absence_ms:
        raise WrongKey("churn.mean_absence_ms", "churn.mean_absence_ms must be above 0 where peers die")
    lives = count * (1 + duration_ms / (churn.mean_lifetime_ms + churn.mean_absence_ms))
    within("churn.mean_lifetime_ms", lives, MOST_LIVES, "lives")


def _check_pairs(key: str, pairs: tuple[tuple[float, float], ...], what: str) -> None:
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2 or not all(_is_number(each) for each in pair):
            raise WrongKey(key, f"{key} holds pairs [share, {what}], all above 0 and at most {MOST_PAIRED:,}")
    if len(pairs) > MOST_PAIRS:
        raise WrongKey(key, f"{key} holds {len(pairs):,} pairs; it must hold {MOST_PAIRS:,} at most")


def _is_number(each: object) -> bool:
    return isinstance(each, int | float) and 0 < each <= MOST_PAIRED


def _check_seats(scenario: Scenario) -> None:
    """What was fixed when an answer came cannot change any more."""
    workers = scenario.workers
    if workers.model == "batching":
        return
    if scenario.scheduler.hedge_ppm:
        raise WrongKey(
            "scheduler.hedge_ppm", 'hedges need workers.model = "batching", which can be cancelled'
        )
    if scenario.adapters.ranks:
        raise WrongKey("adapters.ranks", 'ranks need workers.model = "batching"')
    if workers.placement_ms:
        raise WrongKey("workers.placement_ms", 'placement needs workers.model = "batching"')
