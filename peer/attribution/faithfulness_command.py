"""`adapter faithfulness` on this machine: fetched by the node that runs, measured here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...protocol.attribution.faithfulness import Faithfulness, disagree, from_ppm
from ...protocol.encoding.codec import encode
from ...protocol.errors import ConfigError
from ...protocol.ids import Cid
from ...worker.attribution.measurement import Effort
from ...worker.models.cache import default_cache_dir, find_base
from ..closed_home import read_closed_home
from ..config import load_config
from ..gateway.control_client import ControlClient, is_running
from ..home import Home
from ..local.one_machine import running_home
from .faithfulness import Progress, measure, read_measured

_Z = 1.96
MOST_UNASKED = 20_000
"""Examples that are trained on to measure again what an author announced, unless somebody says how much: some
hours on a small base."""


def measure_here(
    home: Home, name: str, wanted: Mapping[str, int], progress: Progress
) -> tuple[Faithfulness, Faithfulness | None]:
    """Measure an adapter: what was found, and what its author has announced of the same index. As much is
    trained as the author has trained, but for what is `wanted` (fields of Effort). A measurement that was
    stopped goes on.

    Raises what reading and measuring raise, and ConfigError where that is more than anybody trains unasked.
    """
    place = running_home(home)
    config = load_config(place.config)
    if is_running(place):
        with ControlClient(place) as client:
            client.get(f"/faithfulness/{name}")
    measured = read_closed_home(place, config, lambda closed: read_measured(closed, name))
    folder = Path(config.cache_dir) if config.cache_dir else default_cache_dir()
    effort = replace(_as_announced(measured.announced), **wanted)
    if not wanted:
        _require_modest(effort)
    kept = place.jobs / "faithfulness" / _name_of(measured.index_cid, effort), effort
    found = measure(measured, find_base(folder, measured.manifest.base), kept, progress)
    return found, measured.announced


def _as_announced(announced: Faithfulness | None) -> Effort:
    if announced is None:
        return Effort()
    queries, sizes = announced.queries, (announced.steps, announced.batch)
    return Effort(announced.subsets, announced.rows, queries, *sizes)


def _require_modest(effort: Effort) -> None:
    """Raises ConfigError where an author announces more than anybody would train unasked."""
    if effort.subsets * effort.steps * effort.batch > MOST_UNASKED or effort.rows > MOST_UNASKED:
        raise ConfigError(
            f"its author announces {effort.subsets} trainings of {effort.steps} steps of {effort.batch}, on "
            f"halves of {effort.rows} rows: say how much to measure with --subsets, --steps and --rows"
        )


def _name_of(index: Cid, effort: Effort) -> str:
    return hashlib.sha256(f"{index} {effort}".encode()).hexdigest()[:16]


def announce_found(client: ControlClient, found: Faithfulness) -> dict[str, Any]:
    """Have the running node announce it: the statement's content id, and whether it is the author's. Raises
    ConfigError, NotFound."""
    told: dict[str, Any] = client.post("/faithfulness", {"encoded": encode(found).hex()})
    return told


def describe(found: Faithfulness, announced: Faithfulness | None = None) -> dict[str, Any]:
    """For people and programs; `announced` is what another measurement of the same index is compared with."""
    reached = found.found
    told = {
        "adapter": found.adapter,
        "method": found.method,
        **_interval("lds", reached.lds_ppm, reached.error_ppm),
        **_interval("null_adapter", reached.null_ppm, reached.null_error_ppm),
        "null_high": round(from_ppm(reached.null_high_ppm), 4),
        "above_chance": found.above_chance,
        "reduced_to": f"{found.subsets} trainings of {found.steps} steps of {found.batch} on half of "
        f"{found.rows} rows, {found.queries} queries",
    }
    counts = announced is not None and announced.above_chance
    told["pays_by"] = f"{'its scores' if counts else 'the priors'}, by what its author announced"
    if announced is None:
        told["pays_by"] = "the priors, until its author announces a measurement"
    else:
        told["verdict"] = _verdict(announced, found)
        told["announced_lds"] = round(from_ppm(announced.found.lds_ppm), 4)
        told["same_measurement"] = replace(announced, found=reached) == found
        told["agrees_with_author"] = not disagree(announced, found)
    return told


def _verdict(announced: Faithfulness, found: Faithfulness) -> str:
    """Whether the author's figure is found again, in a sentence."""
    said = f"what its author announced, {from_ppm(announced.found.lds_ppm):+.2f}"
    if disagree(announced, found):
        return f"{said}, is NOT found again; --announce says so to everybody, and changes no pay by itself"
    same = replace(announced, found=found.found) == found
    return f"{said}, is found again, {'to rounding' if same else 'within both errors'}"


def _interval(name: str, ppm: int, error_ppm: int) -> dict[str, float]:
    """A correlation and the ends of its 95 % interval."""
    middle, reach = from_ppm(ppm), _Z * error_ppm / 1_000_000
    ends = max(-1.0, middle - reach), min(1.0, middle + reach)
    return {name: round(middle, 4), f"{name}_low": round(ends[0], 4), f"{name}_high": round(ends[1], 4)}
