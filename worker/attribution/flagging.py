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
- Everything is exact, so that the order of additions is nobody's: inner products of signs and sums are taken
  of the sums' digits, whose totals stay within what float32 counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from .sketch import Int8s

SURE = 3.0
FEWEST_ROWS = 4
_MOST_COUNTED = 1 << 24
"""Up to here float32 has every integer."""

Floats = npt.NDArray[np.float32]
Parts = Callable[[], Iterable[Int8s]]
"""An index's rows, some at a time, (some rows, width) each: called whenever they are gone through."""


def margins(parts: Parts, owners: Sequence[bytes]) -> npt.NDArray[np.float64]:
    """Each row's margin, within -2 … 2; 0 for rows of contributors with few."""
    names = {name: place for place, name in enumerate(sorted(set(owners)))}
    owner = np.array([names[each] for each in owners])
    counts = np.bincount(owner, minlength=len(names))
    sums = _sums(parts, owner, len(names))
    digits, found, start = _digits(sums), [np.zeros(0)], 0
    for part in parts():
        own = owner[start : start + len(part)]
        found.append(_margins(_near(_signs(part), digits), own, counts, part.shape[1]))
        start += len(part)
    return np.concatenate(found)


def flag_rows(parts: Parts, owners: Sequence[bytes]) -> list[int]:
    """The rows (by number) that stand nearer to others than to their own kind, the worst first."""
    if not owners:
        return []
    found, width = margins(parts, owners), next(iter(parts())).shape[1]
    noise = SURE * (2 / width) ** 0.5
    worst_first: list[int] = np.argsort(found, kind="stable").tolist()
    return [number for number in worst_first if found[number] < -noise]


def _margins(
    near: npt.NDArray[np.float64], own: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], width: int
) -> npt.NDArray[np.float64]:
    """Of some rows, whose inner products with everybody's sums are (rows, owners)."""
    rows = np.arange(len(own))
    mine = (near[rows, own] - width) / np.maximum(counts[own] - 1, 1)
    near /= counts
    near[rows, own] = -np.inf
    other = near.max(1) if len(counts) > 1 else np.zeros(len(own))
    return np.where(counts[own] < FEWEST_ROWS, 0.0, (mine - other) / width)


def _sums(parts: Parts, owner: npt.NDArray[np.int64], owners: int) -> npt.NDArray[np.int32]:
    """(owners, width) sums of signs."""
    total, start = np.zeros((owners, 0), np.int32), 0
    for part in parts():
        signs, own = _signs(part), owner[start : start + len(part)]
        total = total if total.size else np.zeros((owners, part.shape[1]), np.int32)
        for each in np.unique(own):
            total[each] += signs[own == each].sum(0).astype(np.int32)
        start += len(part)
    return total


def _digits(sums: npt.NDArray[np.int32]) -> list[tuple[int, Floats]]:
    """Sums as factors and parts so small that each part's inner products with signs are counted exactly."""
    most = _MOST_COUNTED // max(sums.shape[1], 1)
    bits, factor, parts = most.bit_length(), 1, list[tuple[int, Floats]]()
    while int(np.abs(sums).max(initial=0)) > most:
        low = (sums + (1 << bits - 1) & (1 << bits) - 1) - (1 << bits - 1)
        parts.append((factor, low.astype(np.float32)))
        sums, factor = (sums - low) >> bits, factor << bits
    return [*parts, (factor, sums.astype(np.float32))]


def _near(signs: Floats, digits: Sequence[tuple[int, Floats]]) -> npt.NDArray[np.float64]:
    """Inner products of signs and sums, (rows, owners)."""
    return sum(factor * (signs @ part.T).astype(np.float64) for factor, part in digits)  # type: ignore[return-value]


def _signs(part: Int8s) -> Floats:
    return np.sign(part).astype(np.float32)
