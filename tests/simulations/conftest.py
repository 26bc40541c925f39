"""A scenario small enough for the default suite, and its TOML table."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from commonlore.simulations.experiment.scenario import Experiment, read_experiment

TINY: dict[str, Any] = {
    "name": "tiny",
    "about": "A scenario for tests",
    "warmup_ms": 2_000,
    "duration_ms": 22_000,
    "network": {"gateways": 2, "advert_interval_ms": 2_000, "loss_detected_ms": 500},
    "workers": {"count": 4, "max_batch": 4, "slots": 3, "receipt_tokens": 16},
    "churn": {"mean_lifetime_ms": 15_000, "mean_absence_ms": 3_000},
    "work": {"rate_per_s": 2.5, "payers": 5, "deadline_ms": 20_000},
    "adapters": {"count": 8, "contributors": 6},
    "money": {"epoch_ms": 5_000},
    "sweep": {"scheduler.policy": ["affinity_and_load", "random"]},
}


@pytest.fixture
def table() -> dict[str, Any]:
    return deepcopy(TINY)


@pytest.fixture
def tiny(table: dict[str, Any]) -> Experiment:
    return read_experiment(table)
