"""Two result folders side by side: what changed between them, and whether that is more than chance.

Arms of one name are compared seed by seed: the same seed saw the same asks, so the differences' interval is
much narrower than the two intervals' own.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..protocol.errors import ConfigError
from .measures import Interval, interval
from .results import to_scalar

Figures = dict[tuple[str, int], dict[str, float]]


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


def compare(before: Path, after: Path) -> list[Change]:
    """Every figure that both folders have for an arm, where it differs. Raises ConfigError."""
    old, new = read_summary(before), read_summary(after)
    arms = list(dict.fromkeys(arm for arm, _ in old if any(other == arm for other, _ in new)))
    if not arms:
        raise ConfigError(f"{before} and {after} have no arm in common; compare runs of one scenario")
    return [change for arm in arms for change in _changes(arm, old, new)]


def _changes(arm: str, old: Figures, new: Figures) -> list[Change]:
    seeds = [seed for name, seed in old if name == arm and (arm, seed) in new]
    if not seeds:
        raise ConfigError(f"{arm!r} was run with other seeds in the two folders; use the same --seeds")
    figures = [name for name in old[arm, seeds[0]] if name in new[arm, seeds[0]]]
    changes = [_change(arm, figure, seeds, (old, new)) for figure in figures]
    return [change for change in changes if change.difference.mean or change.is_clear]


def _change(arm: str, figure: str, seeds: list[int], both: tuple[Figures, Figures]) -> Change:
    old, new = ([each[arm, seed].get(figure, 0.0) for seed in seeds] for each in both)
    difference = interval([after - before for before, after in zip(old, new, strict=True)])
    return Change(arm, figure, sum(old) / len(old), sum(new) / len(new), difference, len(seeds))


def read_summary(folder: Path) -> Figures:
    """The numbers of a folder's summary by arm and seed. Raises ConfigError."""
    path = folder / "summary.csv" if folder.is_dir() else folder
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: {error}; give a folder that `simulate run` wrote") from error
    if not rows or not {"arm", "seed"} <= set(rows[0]):
        raise ConfigError(f"{path} is no summary: it has no columns arm and seed")
    if not all((row["seed"] or "").isdecimal() for row in rows):
        raise ConfigError(f"{path} is no summary: a seed in it is no number")
    return {(row["arm"], int(row["seed"])): _numbers(row) for row in rows}


def _numbers(row: Mapping[str, str | None]) -> dict[str, float]:
    cells = {name: to_scalar(text or "") for name, text in row.items() if name not in ("arm", "seed")}
    return {name: float(value) for name, value in cells.items() if isinstance(value, int | float)}
