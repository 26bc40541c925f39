"""`adapter faithfulness` on this machine: fetched by the node that runs, measured here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...protocol.codec import encode
from ...protocol.faithfulness import Faithfulness, from_ppm
from ...worker.models.cache import default_cache_dir, find_base
from ..closed_home import read_closed_home
from ..config import load_config
from ..gateway.control_client import ControlClient, is_running
from ..home import Home
from ..local.one_machine import running_home
from .faithfulness import Plan, Progress, measure, read_measured

_Z = 1.96


def measure_here(home: Home, name: str, size: tuple[int, int, int], progress: Progress) -> Faithfulness:
    """Measure an adapter; `size` is (subsets, steps, queries). A measurement that was stopped goes on.

    Raises what reading and measuring raise.
    """
    place = running_home(home)
    config = load_config(place.config)
    if is_running(place):
        with ControlClient(place) as client:
            client.get(f"/faithfulness/{name}")
    measured = read_closed_home(place, config, lambda closed: read_measured(closed, name))
    folder = Path(config.cache_dir) if config.cache_dir else default_cache_dir()
    subsets, steps, queries = size
    plan = Plan(subsets, steps, queries, place.jobs / "faithfulness")
    return measure(measured, find_base(folder, measured.manifest.base), plan, progress)


def announce_found(client: ControlClient, found: Faithfulness) -> str:
    """Have the running node announce it; the statement's content id. Raises ConfigError, NotFound."""
    told: str = client.post("/faithfulness", {"encoded": encode(found).hex()})["statement"]
    return told


def describe(found: Faithfulness) -> dict[str, Any]:
    """For people and programs."""
    error = found.error_ppm / 1_000_000
    lds = from_ppm(found.lds_ppm)
    return {
        "adapter": found.adapter,
        "method": found.method,
        "lds": round(lds, 4),
        "low": round(max(-1.0, lds - _Z * error), 4),
        "high": round(min(1.0, lds + _Z * error), 4),
        "null_high": round(from_ppm(found.null_high_ppm), 4),
        "above_chance": found.above_chance,
        "reduced_to": f"{found.subsets} trainings of {found.steps} steps on half of {found.rows} rows, "
        f"{found.queries} queries",
        "pays_by": "its scores" if found.above_chance else "the priors, once its author announces this",
    }
