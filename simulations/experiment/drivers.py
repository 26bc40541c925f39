"""Which scenarios real peers in virtual time can run."""

from __future__ import annotations

from .models import Scenario
from .tables import WrongKey

MOST_REAL_PEERS = 2_000
MOST_REAL_ASKS = 200_000
"""At tens of milliseconds each on one core: hours."""
MOST_REAL_PROMPT = 100_000
"""Tokens: longer prompts do not go into one message."""
HOW_ELSE = 'use driver = "kernel", which models them'


def check_driver(scenario: Scenario) -> None:
    """Raises WrongKey where the scenario's driver cannot run it."""
    if scenario.driver == "kernel":
        return
    peers = scenario.workers.count + scenario.network.gateways
    if peers > MOST_REAL_PEERS:
        raise WrongKey(
            "workers.count",
            f'workers.count and network.gateways are {peers:,} peers; driver = "virtual" runs real ones, '
            f"with keys, stores and signatures, and takes {MOST_REAL_PEERS:,} at most: {HOW_ELSE}",
        )
    asks = scenario.work.rate_per_s * scenario.duration_ms / 1000
    if asks > MOST_REAL_ASKS and not scenario.work.trace:
        raise WrongKey(
            "work.rate_per_s",
            f'work.rate_per_s gives {asks:,.0f} asks; driver = "virtual" takes {MOST_REAL_ASKS:,} at most, '
            f"since each is signed and stored: {HOW_ELSE}",
        )
    if scenario.work.max_prompt > MOST_REAL_PROMPT:
        raise WrongKey(
            "work.max_prompt", f'driver = "virtual" takes prompts of {MOST_REAL_PROMPT:,} tokens at most'
        )
    _refuse_models(scenario)


def _refuse_models(scenario: Scenario) -> None:
    """What only the kernel's models know."""
    workers = scenario.workers
    unknown = {
        "workers.model": (workers.model == "seats", 'takes workers.model = "batching"'),
        "workers.placement_ms": (workers.placement_ms, "has no placement: no real worker acts on advice"),
        "workers.step_us_per_rank": (workers.step_us_per_rank, "has adapters of one rank"),
        "adapters.ranks": (scenario.adapters.ranks, "has adapters of one rank"),
    }
    for key, (is_set, reason) in unknown.items():
        if is_set:
            raise WrongKey(key, f'{key}: driver = "virtual" {reason}; {HOW_ELSE}')
