"""Rows that stand nearer to other people's rows than to their own contributor's: mislabelled or poisoned.

Rules of this file:
- Two rows are near each other as far as their signs in the index agree: where training on the one makes the
  other's answer likelier. What a contributor teaches in one row should hold in its others.
- A row's margin is its mean nearness to its contributor's other rows, less its mean nearness to those of the
  other contributor that it is nearest to. (A sum of influences alone finds fewer: rows of one kind differ
  more in strength than a wrong answer changes. docs/attribution.md has what was measured.)
- A row is flagged whose margin lies below zero by more than SURE standard deviations of the projection's own
  noise: a row that is merely about something else has a margin near zero. Contributors with few rows are not
  judged. Whoever holds an index finds the same.
- A flag is for people: nothing is dropped, and nobody's pay changes by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from .sketch import Int8s

SURE = 3.0
FEWEST_ROWS = 4


Parts = Callable[[], Iterable[Int8s]]
"""An index's rows, some at a time, (some rows, width) each: called whenever they are gone through."""


def margins(parts: Parts, owners: Sequence[bytes]) -> npt.NDArray[np.float64]:
    """Each row's margin, within -2 … 2; 0 for rows of contributors with few."""
    names = sorted(set(owners))
    owner = np.array([names.index(each) for each in owners])
    counts, rows = np.bincount(owner, minlength=len(names)), np.arange(len(owner))
    sums = _sums(parts, owner, len(names))
    near = np.concatenate([_signs(part) @ sums.T for part in parts()]).astype(np.float64)
    width = sums.shape[1]
    own = (near[rows, owner] - width) / np.maximum(counts[owner] - 1, 1)
    near /= counts
    near[rows, owner] = -np.inf
    other = near.max(1) if len(names) > 1 else np.zeros(len(owner))
    return np.where(counts[owner] < FEWEST_ROWS, 0.0, (own - other) / width)


def flag_rows(parts: Parts, owners: Sequence[bytes]) -> list[int]:
    """The rows (by number) that stand nearer to others than to their own kind, the worst first."""
    if not owners:
        return []
    found, width = margins(parts, owners), next(iter(parts())).shape[1]
    noise = SURE * (2 / width) ** 0.5
    worst_first: list[int] = np.argsort(found, kind="stable").tolist()
    return [number for number in worst_first if found[number] < -noise]


def _sums(parts: Parts, owner: npt.NDArray[np.int64], owners: int) -> npt.NDArray[np.float32]:
    """(owners, width) sums of signs; exact, as all sums here: they stay below 2^24."""
    total, start = np.zeros((owners, 0), np.float32), 0
    for part in parts():
        signs, own = _signs(part), owner[start : start + len(part)]
        total = total if total.size else np.zeros((owners, part.shape[1]), np.float32)
        for each in np.unique(own):
            total[each] += signs[own == each].sum(0)
        start += len(part)
    return total


def _signs(part: Int8s) -> npt.NDArray[np.float32]:
    return np.sign(part).astype(np.float32)
