"""What a scenario may set: every key, its value there, and what it allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_type_hints

from .scenario import Experiment
from .tables import Bounds, shown


@dataclass(frozen=True, slots=True)
class Key:
    """A dotted key; `value` is the scenario's (or all those of its sweep), `allowed` says in words what it
    may be."""

    key: str
    value: str
    allowed: str


def keys_of(experiment: Experiment) -> list[Key]:
    """Every key of an experiment's kind."""
    swept: dict[str, list[Any]] = {}
    for arm in experiment.arms:
        for key, value in arm.choice:
            swept.setdefault(key, [])
            if value not in swept[key]:
                swept[key].append(value)
    return [
        Key(key, ", ".join(map(_said, swept.get(key, [value]))), allowed)
        for key, value, allowed in _flat(experiment.arms[0].written)
    ]


def _flat(config: Any, where: str = "", bounds: Bounds | None = None) -> Iterator[tuple[str, Any, str]]:
    hints = get_type_hints(type(config))
    for each in fields(config):
        value = getattr(config, each.name)
        if is_dataclass(value):
            yield from _flat(value, f"{where}{each.name}.", each.metadata.get("bounds"))
            continue
        limits = dict(each.metadata)
        if bounds and each.name in bounds:
            limits = dict(zip(("least", "most"), bounds[each.name], strict=True))
        yield f"{where}{each.name}", value, _allowed(hints[each.name], limits)


def _allowed(kind: Any, limits: Mapping[str, Any]) -> str:
    if "choices" in limits:
        return ", ".join(limits["choices"])
    if "most" in limits:
        least = f"above {shown(limits['above'])}" if "above" in limits else shown(limits["least"])
        return f"{least} to {shown(limits['most'])}{'' if _is_whole(kind) else ', fractions too'}"
    return {bool: "true, false", str: "text"}.get(kind, "a list")


def _is_whole(kind: Any) -> bool:
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    return float not in kinds


def _said(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)
