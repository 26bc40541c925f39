"""What those learn from, in the admission test, who have too few rows of their own: rows of others.

Rules of this file:
- Half of a lesson is of contributors whose rows are known to be language, to the base or after learning; the
  other half of those who wait to be told. Where one half has too few rows the other fills the lesson. So many
  names of noise, which cost nothing, take half of it at most, and none of what is known.
- Of those who wait, whose rows the base finds likelier in their own order come first: noise has no order.
- Everybody gives one row in its turn, and none by which those who learn are measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from .admission import Gains, Sample
from .job import Pair

SHARED_ROWS = 48
"""Rows of a lesson."""


def shared_lesson(samples: Sequence[Sample], gains: Sequence[Gains], half: int) -> tuple[Pair, ...]:
    """What the small contributors of a half learn from."""
    told = [number for number, own in enumerate(gains) if own.plain]
    known = [number for number in told if gains[number].is_language]
    waiting = [number for number in told if not gains[number].is_language]
    waiting.sort(key=lambda number: -mean(gains[number].plain))
    first, second = (
        _in_turn([_rows(samples[number], half) for number in numbers]) for numbers in (known, waiting)
    )
    room = max(SHARED_ROWS - SHARED_ROWS // 2, SHARED_ROWS - len(second))
    taken = first[:room]
    return (*taken, *second[: SHARED_ROWS - len(taken)])


def _rows(sample: Sample, half: int) -> list[Pair]:
    """What a contributor may teach a half: if it is of that half itself, nothing that it is measured by."""
    measured = [] if sample.half == half else [row for row, _ in sample.measured]
    return [*measured, *sample.learnt]


def _in_turn(pools: Sequence[Sequence[Pair]]) -> list[Pair]:
    longest = max(map(len, pools), default=0)
    return [own[turn] for turn in range(longest) for own in pools if turn < len(own)]
