"""Two result folders side by side: what changed between them, and whether that is more than chance.

Arms of one name are compared seed by seed: the same seed saw the same asks, so the differences' interval is
much narrower than the two intervals' own. Where each folder has one arm, these two are compared.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...protocol.errors import ConfigError
from ..experiment.measures import Interval, interval
from ..experiment.sources import VERSIONED
from .formats import to_scalar

Pair = tuple[str, str]
"""An arm before, and one after."""
Figures = dict[tuple[str, int], dict[str, float]]
CHANCE = 0.05
"""How many differences look clear where there are none."""


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of one arm: its means in both, and the difference over the seeds that both have.

    `is_clear`: the difference's 95 % interval excludes zero, which a single seed never says.
    """

    arm: str
    figure: str
    before: float
    after: float
    difference: Interval
    seeds: int

    @property
    def is_clear(self) -> bool:
        """Whether chance is an unlikely reason."""
        return self.seeds > 1 and (self.difference.low > 0 or self.difference.high < 0)

    @property
    def relative(self) -> float | None:
        """The difference by what was before."""
        return self.difference.mean / abs(self.before) if self.before else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every figure that differs, of `compared`; `settings` says in words which settings do, `left_out` which
    arms only one folder has, or with other seeds. `seeds` is the fewest that an arm was compared by."""

    changes: tuple[Change, ...]
    compared: int
    seeds: int
    settings: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def by_chance(self) -> float:
        """How many of the compared figures would look clear if nothing had changed."""
        return CHANCE * self.compared if self.seeds > 1 else 0.0


def compare(before: Path, after: Path) -> Comparison:
    """Compare what `simulate run` wrote into two folders. Raises ConfigError."""
    old, new = read_summary(before), read_summary(after)
    pairs = _pairs(old, new)
    if not pairs:
        raise ConfigError(
            f"no arm in common: {before} has {_told(_arms(old))}, {after} has {_told(_arms(new))}; "
            "compare runs of one scenario that sweep the same keys"
        )
    common = {pair: _common_seeds(pair, old, new) for pair in pairs}
    if not any(common.values()):
        raise ConfigError(f"{before} and {after} were run with other seeds; use the same --seeds")
    found = [
        change for pair, seeds in common.items() if seeds for change in _changes(pair, seeds, (old, new))
    ]
    return Comparison(
        changes=tuple(change for change in found if change.difference.mean or change.is_clear),
        compared=len(found),
        seeds=min(len(seeds) for seeds in common.values() if seeds),
        settings=_settings(before, after, pairs),
        left_out=_left_out(old, new, common),
    )


def _common_seeds(pair: Pair, old: Figures, new: Figures) -> list[int]:
    return [seed for arm, seed in old if arm == pair[0] and (pair[1], seed) in new]


def _left_out(old: Figures, new: Figures, common: Mapping[Pair, list[int]]) -> tuple[str, ...]:
    paired = {arm for pair in common for arm in pair}
    alone = [arm for arm in {**_arms(old), **_arms(new)} if arm not in paired]
    return (*alone, *(f"{pair[0]} (other seeds)" for pair, seeds in common.items() if not seeds))


def _arms(figures: Figures) -> dict[str, None]:
    return dict.fromkeys(arm for arm, _ in figures)


def _pairs(old: Figures, new: Figures) -> list[Pair]:
    """Which arm is compared with which."""
    ours, theirs = _arms(old), _arms(new)
    common = [(arm, arm) for arm in ours if arm in theirs]
    return list(zip(ours, theirs, strict=True)) if len(ours) == len(theirs) == 1 else common


def _changes(pair: Pair, seeds: list[int], both: tuple[Figures, Figures]) -> Iterator[Change]:
    """Every figure that both arms have for all these seeds."""
    old, new = ([each[arm, seed] for seed in seeds] for each, arm in zip(both, pair, strict=True))
    arm = pair[0] if pair[0] == pair[1] else " -> ".join(pair)
    for figure in old[0]:
        if all(figure in row for row in (*old, *new)):
            befores, afters = ([row[figure] for row in rows] for rows in (old, new))
            gained = [after - before for before, after in zip(befores, afters, strict=True)]
            means = sum(befores) / len(seeds), sum(afters) / len(seeds)
            yield Change(arm, figure, *means, interval(gained), len(seeds))


# ---- files


def read_summary(folder: Path) -> Figures:
    """The numbers of a folder's summary by arm and seed. Raises ConfigError."""
    path = folder / "summary.csv" if folder.is_dir() else folder
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except FileNotFoundError as error:
        raise ConfigError(f"{folder} holds no results; give a folder that `simulate run` wrote") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(
            f"{path} is no summary ({error}); give a folder that `simulate run` wrote"
        ) from error
    if not rows or not {"arm", "seed"} <= set(rows[0]):
        raise ConfigError(f"{path} is no summary: it has no columns arm and seed")
    if not all((row["seed"] or "").isdecimal() for row in rows):
        raise ConfigError(f"{path} is no summary: a seed in it is no number")
    return {(row["arm"], int(row["seed"])): _numbers(row) for row in rows}


def _numbers(row: Mapping[str, str | None]) -> dict[str, float]:
    """Figures, which have no dot in their names, as swept keys do."""
    cells = {name: to_scalar(text or "") for name, text in row.items() if name not in ("arm", "seed")}
    return {
        name: float(value)
        for name, value in cells.items()
        if isinstance(value, int | float) and "." not in name
    }


def _settings(before: Path, after: Path, pairs: list[Pair]) -> tuple[str, ...]:
    """What differs in the two manifests, in words."""
    old, new = _manifest(before), _manifest(after)
    if not old or not new:
        return ()
    told: dict[str, None] = {}
    for one, other in pairs:
        ours, theirs = _arm_settings(old, one), _arm_settings(new, other)
        for key in {**ours, **theirs}:
            if ours.get(key) != theirs.get(key) and key not in ("name", "about"):
                told[f"{key} {ours.get(key)} -> {theirs.get(key)}"] = None
    others = {"inputs": "input files", "code_sha256": "the code"} | {name: name for name in VERSIONED}
    told |= {f"{words} changed": None for name, words in others.items() if old.get(name) != new.get(name)}
    return tuple(told)


def _arm_settings(manifest: Mapping[str, Any], arm: str) -> dict[str, Any]:
    return dict(_flat(manifest.get("arms", {}).get(arm, {})))


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _flat(table: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", value


def _told(arms: Mapping[str, None]) -> str:
    first, *others = arms
    return f"{first!r}" + (f" and {len(others)} more" if others else "")
