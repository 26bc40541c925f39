"""Whose rows a shard was reworded from: integers only, the same on every machine.

Rules of this file:

- A row of which many words were replaced is less like its original than honest rows of one family are like
  each other, so likeness does not tell it. What tells it is that one earlier row stands out: what is left of
  the original's words stands together nowhere else. Hence *margin*: how much more of its best match than of
  any second one a row has, in thousandths of the match.
- One row that stands out is chance (honest rows of one family have such partners, too). It counts that many
  rows each have a partner of their own: of an honest family's rows less than half have.
- Counted against the rows that are at all like that hand's: what a cheat adds of his own changes nothing, and
  an honest large part of a family that meets a small one is not held to have reworded it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..ids import Address

LEAST_SHARE, LEAST_MARGIN = 300, 80
"""Thousandths of a match that a row has at least, and of it alone, where it stands out."""
FEWEST_PARTNERS = 16
"""Fewer are chance."""
PARTS, OF = 3, 5
"""What part of the rows has a partner of its own, at least."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The earlier row of somebody else that a row has most of, in thousandths of that row, and how much more
    that is than of the second one."""

    original: int
    share: int
    margin: int

    @property
    def stands_out(self) -> bool:
        """Whether it is the one that it is."""
        return self.share >= LEAST_SHARE and self.margin >= LEAST_MARGIN


def trace_of(others: Sequence[tuple[int, int]], weight_of: Callable[[int], int]) -> Trace:
    """From (representative, weight in common) of each row that is at all alike, at least one."""
    (original, most), *rest = sorted(others, key=lambda each: (-each[1], each[0]))
    second, weight = rest[0][1] if rest else 0, weight_of(original)
    return Trace(original, 1000 * most // weight, 1000 * (most - second) // weight)


def reworded_from(
    traces: Sequence[Trace | None], owner_of: Callable[[int], Address], sizes: Mapping[Address, int]
) -> frozenset[Address]:
    """Whose rows a shard was made from; `sizes` says how many rows everybody has given before."""
    alike: dict[Address, int] = {}
    partners: dict[Address, set[int]] = {}
    for trace in traces:
        if trace and trace.share >= LEAST_SHARE:
            owner = owner_of(trace.original)
            alike[owner] = alike.get(owner, 0) + 1
            if trace.stands_out:
                partners.setdefault(owner, set()).add(trace.original)
    return frozenset(
        owner
        for owner, found in partners.items()
        if len(found) >= FEWEST_PARTNERS
        and OF * len(found) >= PARTS * max(alike[owner], min(len(traces), sizes.get(owner, 0)))
    )
