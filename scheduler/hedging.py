"""When an ask whose first token is late is sent to a second worker as well. Source: The Tail at Scale (Dean
and Barroso 2013): a hedge after the slow quantile costs a few percent of the work.

Rules of this file: hedges are at most a fixed share of the asks, so that they cannot feed an overload; only a
worker that holds the adapters and is at most half busy is given one.
"""

from __future__ import annotations

from .estimates import Estimates
from .members import Member
from .query import Query
from .standing import PPM

BURST = 10
"""How many hedges may be saved up."""
LEAST_MS = 200


class Hedges:
    """A share of `share_ppm` of the asks, in parts per million, may be hedged; 0: none."""

    __slots__ = ("_earned_ppm", "share_ppm")

    def __init__(self, share_ppm: int) -> None:
        self.share_ppm = share_ppm
        self._earned_ppm = 0

    def earn(self) -> None:
        """One more ask."""
        self._earned_ppm = min(self._earned_ppm + self.share_ppm, BURST * PPM)

    def wait_ms(self, estimates: Estimates) -> int:
        """How long to wait for a first token before a hedge."""
        return max(LEAST_MS, estimates.slow_ms)

    def take(self, query: Query, member: Member) -> bool:
        """Whether the ask may be sent to `member` too; counts it."""
        is_idle = 2 * member.standing.load_at(query.now_ms) < member.max_batch
        if self._earned_ppm < PPM or not is_idle or query.missing(member):
            return False
        self._earned_ppm -= PPM
        return True
