"""What one step's rows add to the base, told in slots: the same plan for every way of computing it. Pure.

Rules of this file:
- An adapter's factors lie in one slot of one rank bucket. Slot 0 of a bucket holds zeros and is no adapter's.
- A row adds the weighted sum of its terms: one of weight 1 where it has one adapter, several where adapters
  are composed, none under the plain base.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SlotTerm:
    """The adapter in `slot` of the pool of rank `bucket`, times `weight`."""

    bucket: int
    slot: int
    weight: float


Terms = tuple[SlotTerm, ...]


@dataclass(frozen=True, slots=True)
class PromptTerms:
    """Rows [start, end) are one prompt's."""

    start: int
    end: int
    terms: Terms


@dataclass(frozen=True, slots=True)
class LoraPlan:
    """One step. `decoding` has the terms of rows 0, 1, …, one row a sequence; rows of prompts come behind."""

    decoding: tuple[Terms, ...] = ()
    prompts: tuple[PromptTerms, ...] = ()
