"""Attempts of one ask that run at once: the scheduler's first and, beside it, its hedge.

Rules of this file: whoever delivers first has won, and only it writes into the answer; what the other one
delivers before it hears that it may stop goes into a draft, is paid, and is read by nobody; together their
limits stay within the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from ...protocol.ids import PeerId
from .answers import Answer, Delta


@dataclass(slots=True, eq=False)
class Leg:
    """One attempt. `limit` is what it may cost, token units; `answer` is where its deliveries go."""

    peer: PeerId
    scope: trio.CancelScope
    answer: Answer
    limit: int = 0
    first_token_ms: int = 0


@dataclass(slots=True, eq=False)
class Race:
    """The legs under way for one ask since the scheduler last sent it out alone."""

    answer: Answer
    legs: list[Leg] = field(default_factory=list)
    winner: Leg | None = None

    def enter(self, peer: PeerId) -> Leg:
        """Another attempt begins."""
        leg = Leg(peer, trio.CancelScope(), self.answer)
        self.legs.append(leg)
        return leg

    def reserved(self, leg: Leg) -> int:
        """What the other legs may cost, token units."""
        return sum(other.limit for other in self.legs if other is not leg)

    def lost(self, leg: Leg) -> bool:
        """Whether another one was first."""
        return self.winner is not None and self.winner is not leg

    def claim(self, leg: Leg) -> bool:
        """This leg delivers something: is it the first that does, of several? From now on `leg.answer` is
        where it goes."""
        if self.winner is None:
            self.winner = leg
            return len(self.legs) > 1
        if self.lost(leg) and leg.answer is self.answer:
            leg.answer = _draft_of(self.answer)
        return False

    def close(self) -> None:
        """Another race begins: whoever still runs in this one has lost."""
        for leg in self.legs:
            leg.scope.cancel()
        self.winner = Leg(PeerId(""), trio.CancelScope(), self.answer)

    def abandon(self, peer: PeerId) -> None:
        """The scheduler needs the attempt at this worker no more."""
        for leg in self.legs:
            if leg.peer == peer:
                leg.scope.cancel()

    def settle(self, leg: Leg) -> None:
        """This leg is over: what a loser was paid is part of what the answer cost."""
        leg.limit = 0
        if leg.answer is not self.answer:
            self.answer.transcript.unread.extend(leg.answer.transcript.receipts)


def _draft_of(answer: Answer) -> Answer:
    """A page that nobody reads."""
    _, nothing = trio.open_memory_channel[Delta](0)
    return Answer(answer.adapters, nothing)
