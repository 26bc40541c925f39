"""From the parts' messages to one result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..figures import rounded
from .campaign import Plan
from .measures import across
from .settings import ABLATIONS, OURS

Message = dict[str, Any]
Parts = Mapping[str, Message]
_OVER_SEEDS = (
    "lds",
    "shapley_pearson",
    "pay_error",
    "pay_error_one_order",
    "pool_pay_error",
    "bytes_per_example",
    "index_seconds",
    "seconds_per_query",
)


def assemble(parts: Parts, plan: Plan) -> Message:
    """The result; of what was not measured, nothing."""
    result: Message = {"seeds": list(plan.seeds)}
    if six := _seeds(parts, "six"):
        result |= _faithfulness(six)
    if forms := _seeds(parts, "forms"):
        result["forms"] = _means(forms)
    if attacks := _seeds(parts, "attacks"):
        result["attacks"] = _attacks(attacks)
    if families := _named(parts, "family"):
        result["auc_datainf"] = {name: _plain(each) for name, each in families.items()}
    if families := _named(parts, "real-family"):
        result["auc_datainf_real"] = _real_families(families)
    result |= _order(_seeds(parts, "order")) | _checks(_named(parts, "checks"))
    if "cost" in parts:
        result |= {"cost_fraction": rounded(parts["cost"]["cost_fraction"]), "cost": _plain(parts["cost"])}
    for name in ("starter",):
        if name in parts:
            result[name] = _plain(parts[name])
    for name in ("choice", "sorted", "measured"):
        if found := _named(parts, name):
            result[name] = {each: _plain(part) for each, part in found.items()}
    result |= _windows(_named(parts, "windows"), {str(seed) for seed in plan.seeds})
    result["by_seed"] = {name: _plain(each) for name, each in six.items()}
    result["parts"] = {name: part["measured"] for name, part in parts.items()}
    return result


def _named(parts: Parts, prefix: str) -> dict[str, Message]:
    return {
        name.removeprefix(f"{prefix}-"): part for name, part in parts.items() if name.startswith(f"{prefix}-")
    }


_seeds = _named


def _real_families(found: Mapping[str, Message]) -> Message:
    """family → form → what was measured."""
    families: Message = {}
    for name, part in found.items():
        family, _, form = name.rpartition("-")
        families.setdefault(family, {})[form] = _plain(part)
    return families


def _faithfulness(six: Mapping[str, Message]) -> Message:
    """Means over seeds, with the standard error over seeds."""
    table = _means(six)
    (ours,) = OURS
    gaps = dict.fromkeys(name for part in six.values() for name in part["against_ours"])
    return {
        "ours": table[ours],
        "limits": {name: table[name] for name in ABLATIONS if name in table},
        "peers": {name: each for name, each in table.items() if name not in OURS and name not in ABLATIONS},
        "ours_minus": {
            name: _gap([part["against_ours"][name] for part in six.values() if name in part["against_ours"]])
            for name in gaps
            if name not in ABLATIONS
        },
        "absent": {name: why for part in six.values() for name, why in part["absent"].items()},
    }


def _means(seeds: Mapping[str, Message]) -> Message:
    """By method."""
    names = dict.fromkeys(name for part in seeds.values() for name in part["methods"])
    return {
        name: _over_seeds([part["methods"][name] for part in seeds.values() if name in part["methods"]])
        for name in names
    }


def _over_seeds(values: list[Message]) -> Message:
    """Of a single seed, the error of the LDS is that over its questions and subsets."""
    found: Message = {"seeds": len(values)}
    for figure in (each for each in _OVER_SEEDS if all(each in value for value in values)):
        mean = across([each[figure] for each in values])[0]
        found[figure] = round(mean) if figure == "bytes_per_example" else rounded(mean)
    for figure in ("lds", "pay_error"):
        found[f"{figure}_se"] = _error([each[figure] for each in values])
    if len(values) == 1:
        found["lds_se"] = rounded(values[0]["lds_se_within"])
    return found


def _gap(values: list[Message]) -> Message:
    found: Message = {"seeds": len(values)}
    for figure in ("lds", "pay_error"):
        figures = [each[figure] for each in values]
        found |= {figure: rounded(across(figures)[0]), f"{figure}_se": _error(figures)}
        if len(values) == 1:
            found[f"{figure}_se"] = rounded(values[0][f"{figure}_se"])
    return found


def _error(figures: list[float]) -> float | None:
    error = across(figures)[1]
    return None if error is None else rounded(error)


def _attacks(seeds: Mapping[str, Message]) -> Message:
    """attack → method → the worst over seeds."""
    found: Message = {}
    for part in seeds.values():
        for attack, methods in part.items():
            if attack == "measured":
                continue
            for method, damage in methods.items():
                worst = found.setdefault(attack, {}).setdefault(method, {"seeds": 0})
                worst["seeds"] += 1
                for figure in ("honest_change", "honest_loss", "attacker_share"):
                    worst[figure] = max(worst.get(figure, 0.0), rounded(damage[figure]))
    return found


def _windows(found: Mapping[str, Message], reported: set[str]) -> Message:
    """By world, on the development seeds, on the reported ones, and on the real base."""
    worlds: Message = {}
    for name, part in found.items():
        kind = "windows_reported" if name in reported else "windows" if name.isdigit() else "windows_real"
        worlds.setdefault(kind, {})[name] = _plain(part)
    if again := worlds.get("windows_reported"):
        names = dict.fromkeys(name for part in again.values() for name in part["less_used"])
        gaps = {name: _gap([part["less_used"][name] for part in again.values()]) for name in names}
        worlds["windows_less_used"] = gaps
    return worlds


def _order(seeds: Mapping[str, Message]) -> Message:
    if not seeds:
        return {}
    ways = [way for way in next(iter(seeds.values())) if way != "measured"]
    return {
        "order": {
            way: {
                figure: rounded(float(np.mean([part[way][figure] for part in seeds.values()])))
                for figure in ("pay_change", "largest_pay_change", "answer_change", "pay_error")
            }
            for way in ways
        }
    }


def _checks(worlds: Mapping[str, Message]) -> Message:
    if not worlds:
        return {}
    six = [part for name, part in worlds.items() if name != "starter"]
    return {
        "l1_bit_exact": all(part["l1_bit_exact"] for part in worlds.values()),
        "l2_passed": sum(part["l2"]["passed"] for part in six),
        "l2_total": sum(part["l2"]["total"] for part in six),
        "checks": {
            name: {key: _plain(value) for key, value in part.items() if key not in ("shares", "measured")}
            for name, part in worlds.items()
        },
    }


def _plain(value: Any) -> Any:
    """With four significant digits, and without when it was measured, which `parts` says."""
    match value:
        case bool() | int() | str():
            return value
        case float():
            return rounded(value)
        case Mapping():
            return {name: _plain(each) for name, each in value.items() if name != "measured"}
        case Iterable():
            return [_plain(each) for each in value]
        case _:
            return value


def print_table(result: Message) -> None:
    """For people."""
    for name, each in [("ours", result.get("ours", {})), *result.get("peers", {}).items()]:
        if each:
            print(
                f"{name:26} LDS {each['lds']} ± {each['lds_se']}  Pearson {each['shapley_pearson']}  "
                f"pay error {each['pay_error']}  {each['bytes_per_example']:.0f} B"
            )
    for key in ("auc_datainf", "attacks", "order", "l1_bit_exact", "l2_passed", "l2_total", "cost_fraction"):
        print(key, result.get(key))
