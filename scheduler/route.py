"""From an ask to the worker that gets it: who may serve it, and who of those is best.

Rules of this file: `survey` alone decides who may serve; a policy only ranks. Choosing looks at a few
workers. Only when none of those may serve, more are asked, first of all those with room: a bounded number at
a time, going on where the last look ended, so that a large network that is full costs no more than a small
one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from ..protocol.ids import PeerId
from .events import AskSpec
from .fields import Field
from .members import Member
from .policies import Policy
from .pools import Pool
from .prefixes import Prefixes
from .prng import Prng
from .query import NOTHING_READ, NOTHING_TRIED, Query
from .scores import NOBODY, Choice
from .survey import PASSING, Survey, bar_of, may_serve, next_chance
from .view import NetworkView

LOOKED_AT = 1_024
"""How many workers are asked at a time when those of the policy cannot serve."""
USUAL_INERTIA = 64
FOUND = 4
"""How many of them that can are compared."""


@dataclass(slots=True)
class Router:
    """Applies one policy to the view."""

    policy: Policy
    view: NetworkView
    rng: Prng
    prefixes: Prefixes

    def query(self, now_ms: int, spec: AskSpec, tried: Mapping[PeerId, int] = NOTHING_TRIED) -> Query | None:
        """What a choice for the ask is about; None where nobody serves its base."""
        field = self.view.field(spec.base)
        if field is None:
            return None
        cached = self.prefixes.look(self.view, spec) if spec.prefixes else NOTHING_READ
        return Query(now_ms, spec, field, self.rng, tried, cached)

    def choose(self, query: Query) -> Member | None:
        """The best of those the policy draws; if none of them may serve, anybody who may; None if nobody
        is found."""
        policy, field = self.policy, query.field
        best, score = self._best(policy.draw(query), query, NOBODY)
        if policy.more is not None:
            usual = field.usual_score
            if score > usual:
                best, score = self._best(policy.more(query), query, (best, score))
            field.usual_score += ((score if best is not None else 0) - usual) // USUAL_INERTIA
        return best or self._anybody(query)

    def assess(self, query: Query, peer: PeerId) -> Member | None:
        """`peer`, if it may serve the ask now."""
        member = self.view.member(peer)
        return member if member is not None and may_serve(member, query) else None

    def can_serve(self, now_ms: int, spec: AskSpec) -> bool:
        """Whether somebody may serve the ask, now or when it has rested or has room."""
        query = self.query(now_ms, spec)
        if query is None:
            return False
        bars = (bar_of(member, query) for member in query.field.everyone)
        return any(bar is None or bar in PASSING for bar in bars)

    def next_chance(self, query: Query) -> tuple[int | None, bool]:
        """When somebody may serve the ask that nobody may serve now, and whether somebody is full."""
        return next_chance(query.field.everyone.items[:LOOKED_AT], query)

    def survey(self, query: Query | None, spec: AskSpec) -> Survey:
        """Why nobody may serve the ask, as far as `LOOKED_AT` workers tell."""
        survey = Survey(spec.base, prompt_tokens=spec.prompt_tokens, max_tokens=spec.max_tokens)
        if query is not None:
            for member in query.field.everyone.items[:LOOKED_AT]:
                survey.count(member, query)
        return survey

    def _best(self, members: Sequence[Member], query: Query, before: Choice) -> Choice:
        """The best of `members` that may serve, and of the one that is the best so far.

        Nearly all may, so only the best is looked at closely; all are where it may not.
        """
        choice = self.policy.choose(members, query, before)
        found = choice[0]
        if found is None or found is before[0] or may_serve(found, query):
            return choice
        able = [each for each in members if each is not found and may_serve(each, query)]
        return self.policy.choose(able, query, before)

    def _anybody(self, query: Query) -> Member | None:
        """The best of the first few that may serve, as far as one look goes; those that are believed full are
        asked only where nobody with room may serve, since what is believed of them ages."""
        field = query.field
        found = self._able(query, field.roomy)
        if not found and len(field.roomy) < len(field.everyone):
            found = self._able(query, field.everyone)
        return self._best(found, query, NOBODY)[0]

    def _able(self, query: Query, pool: Pool[Member]) -> list[Member]:
        """The first few that may serve of those whose turn it is to be asked."""
        turn = self._turn(query.field, pool)
        return list(islice((each for each in turn if may_serve(each, query)), FOUND))

    def _turn(self, field: Field, pool: Pool[Member]) -> Sequence[Member]:
        """All, from a random place on, or the next ones of many."""
        if not pool:
            return ()
        at = self.rng.below(len(pool)) if len(pool) <= LOOKED_AT else field.looked_at % len(pool)
        turn = pool.items[at : at + LOOKED_AT]
        turn += pool.items[: min(at, LOOKED_AT - len(turn))]
        field.looked_at = at + len(turn)
        return turn
