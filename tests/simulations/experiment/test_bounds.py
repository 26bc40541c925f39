"""Every number that a scenario may set has two bounds, and both are told with the key."""

from dataclasses import fields, is_dataclass
from types import UnionType
from typing import get_args, get_type_hints

import pytest

from commonlore.protocol.errors import ConfigError
from commonlore.scheduler.core import SchedulerConfig
from commonlore.simulations.experiment.kinds import KINDS, kind_of
from commonlore.simulations.experiment.models import SCHEDULER_BOUNDS
from commonlore.simulations.experiment.scenario import load_experiment, read_experiment


def numbers_of(cls, where=""):
    """(dotted key, its type, bounds) of every number in a configuration."""
    hints = get_type_hints(cls)
    for each in fields(cls):
        kinds = get_args(hints[each.name]) if isinstance(hints[each.name], UnionType) else (hints[each.name],)
        if is_dataclass(kinds[0]):
            yield from numbers_of(kinds[0], f"{where}{each.name}.")
        for kind in {int, float} & set(kinds):
            limits = each.metadata
            if cls is SchedulerConfig:
                limits = dict(zip(("least", "most"), SCHEDULER_BOUNDS[each.name], strict=True))
            yield f"{where}{each.name}", kind, limits


NUMBERS = [(name, *number) for name in KINDS for number in numbers_of(kind_of(name).config)]


def table_with(kind, key, value):
    table = {"kind": kind, "name": "x", "about": ""}
    *parents, last = key.split(".")
    inner = table
    for parent in parents:
        inner = inner.setdefault(parent, {})
    inner[last] = value
    return table


def test_there_are_many():
    assert len(NUMBERS) > 100


@pytest.mark.parametrize(("kind", "key", "type_", "limits"), NUMBERS)
def test_numbers_have_bounds_on_both_sides(kind, key, type_, limits):
    least = limits["above"] if "above" in limits else limits["least"]
    for value in (limits["most"] + 1, 10**9 * limits["most"] + 1, 10**400, least - 1, -(10**400)):
        with pytest.raises(ConfigError, match=rf"^{key} is .*; it must be "):
            read_experiment(table_with(kind, key, value))
    if type_ is float:
        for value in (float("nan"), float("inf"), float("-inf")):
            with pytest.raises(ConfigError, match=rf"^{key} is .*; it must be a finite number"):
                read_experiment(table_with(kind, key, value))


@pytest.mark.parametrize(
    ("kind", "tables", "message"),
    [
        (
            "service",
            {"work": {"rate_per_s": 1e6}},
            "gives 1.2e.08 asks, more than 20,000,000",
        ),
        (
            "service",
            {"workers": {"count": 100_000}, "network": {"gateways": 1_000}},
            "network.gateways gives 1e.08 latencies",
        ),
        (
            "service",
            {"duration_ms": 10**9, "work": {"rate_per_s": 0.1, "arrivals": "bursts", "burst_ms": 1}},
            "work.burst_ms gives 1e.09 bursts",
        ),
        (
            "service",
            {"duration_ms": 10**10, "work": {"rate_per_s": 0.1, "diurnal": 0.5, "day_ms": 1_000}},
            "work.day_ms gives .* changes of rate",
        ),
        ("service", {"churn": {"mean_lifetime_ms": 1, "mean_absence_ms": 1}, "duration_ms": 10**9}, "lives"),
        ("service", {"workers": {"mix": [[1, 1]] * 2_000}}, "workers.mix holds 2,000 pairs"),
        ("service", {"workers": {"mix": [[1, 1e9]]}}, "at most 1,000,000"),
        ("training", {"churn": {"mean_lifetime_ms": 1, "mean_absence_ms": 1}, "duration_ms": 10**9}, "lives"),
        (
            "gossip",
            {"overlay": {"peers": 2_000_000, "outbound": 128, "most": 200}},
            "peers gives .*dials",
        ),
        ("gossip", {"overlay": {"peers": 2_000_000}, "gossip": {"messages": 1_000}}, "gossip.messages gives"),
        (
            "gossip",
            {"overlay": {"peers": 2_000_000}, "gossip": {"lazy_degree": 100}},
            "lazy_degree gives",
        ),
        ("attack", {"attack": {"receipts_needed": 100_000, "detection": 1e-6}}, "audits of an identity"),
        ("attribution", {"attribution": {"rows": 1e5, "contributors": 100_000}}, "attribution.rows gives"),
        (
            "attribution",
            {"attribution": {"rows": 1e5, "copied": 1e3, "missed": 1.0}},
            "copied gives",
        ),
    ],
)
def test_what_several_keys_give_together_is_bounded(kind, tables, message):
    with pytest.raises(ConfigError, match=message):
        read_experiment({"kind": kind, "name": "x", "about": "", **tables})


def test_the_line_is_told(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('name = "x"\nabout = ""\n\n[workers]\nslots = 4\ncount = 1_000_000_000\n')
    told = r"mine\.toml, line 6: workers\.count is 1,000,000,000; it must be at most 1,000,000$"
    with pytest.raises(ConfigError, match=told):
        load_experiment(path)
    with pytest.raises(ConfigError, match=r"^given parameters: workers\.count is 0; it must be at least 1$"):
        load_experiment(path, {"workers.count": (0,)})
