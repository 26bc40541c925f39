"""From an ask to the worker that gets it: who may serve it, who of those is best, and why nobody can.

Rules of this file: `assess` alone decides who may serve; a policy only ranks. Choosing looks at few
workers; all of them are surveyed only when those few may not serve, and that survey yields the words for
the user.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from ..protocol.credits import compute_price
from ..protocol.ids import PeerId
from .estimates import Estimates
from .events import AskSpec
from .policies import Candidate, Field, Policy, draw_any
from .standing import Standings
from .view import WorkerView


class Bar(Enum):
    """Why a worker may not serve an ask: those of `_PASSING` pass by themselves."""

    EXCLUDED = "excluded"
    ARTEFACT = "loads another artefact"
    TOO_LONG = "has too small a context"
    RANK = "takes no adapter of this rank"
    PRICE = "is too dear"
    KEY = "has a session key that expires too soon"
    TRIED = "was tried"
    RESTING = "is resting after failures or refusals"
    FULL = "is full"


_PASSING = frozenset((Bar.TRIED, Bar.RESTING, Bar.FULL))


@dataclass(slots=True)
class Survey:
    """Everybody who serves the base, by what bars them.

    `next_ms` is when a bar that passes will have passed, if known.
    """

    base: str
    bars: Counter[Bar] = field(default_factory=Counter[Bar])
    cheapest: int | None = None
    longest: int = 0
    """The largest context of those that are too small."""
    prompt_tokens: int = 0
    max_tokens: int = 0
    next_ms: int | None = None

    @property
    def code(self) -> str:
        """The stable word for the shortage, as in `protocol.errors` and `protocol.messages.RefusalCode`."""
        if any(self.bars[bar] for bar in _PASSING):
            return "busy"
        for bar, code in ((Bar.PRICE, "price"), (Bar.TOO_LONG, "too_long")):
            if self.bars[bar]:
                return code
        return "not_found"

    def explain(self, max_price: int) -> str:
        """One line for people: what is missing and what to do."""
        if not self.bars:
            return f"no worker of base {self.base} is known; start one, or connect to a peer that knows one"
        if self.code == "price" and self.cheapest is not None:
            return (
                f"the cheapest worker asks up to {self.cheapest} token units; raise the limit of {max_price}"
            )
        if self.code == "too_long":
            return (
                f"a prompt of about {self.prompt_tokens} tokens and an answer of up to {self.max_tokens} "
                f"exceed every worker's context; the largest is {self.longest} tokens: lower max-tokens, "
                "or shorten the prompt"
            )
        reasons = ", ".join(
            f"{count} {bar.value}" for bar, count in sorted(self.bars.items(), key=lambda it: it[0].name)
        )
        return f"none of {self.bars.total()} workers of base {self.base} can serve this now: {reasons}"


@dataclass(slots=True)
class Router:
    """Applies one policy.

    `backlog` is how many batches of asks a worker may be behind before it counts as full.
    """

    policy: Policy
    field: Field
    standings: Standings
    estimates: Estimates
    backlog: int

    def choose(self, now_ms: int, spec: AskSpec, tried: Mapping[PeerId, int]) -> Candidate | None:
        """The best of those the policy draws; if none of them may serve, anybody who may; None if nobody
        may."""
        best: Candidate | None = None
        best_score = 0
        for peer in self.policy.draw(self.field, spec):
            candidate = self.assess(now_ms, spec, tried, peer)
            if isinstance(candidate, Bar):
                continue
            score = self.policy.score(candidate, spec)
            if best is None or score < best_score:
                best, best_score = candidate, score
                if score == 0:
                    break
        return best or self._anybody(now_ms, spec, tried)

    def assess(
        self, now_ms: int, spec: AskSpec, tried: Mapping[PeerId, int], peer: PeerId
    ) -> Candidate | Bar:
        """`peer` as a candidate for the ask, or what bars it.

        `tried` maps peers to when they may be tried again.
        """
        view = self.field.view
        worker = view.get(peer)
        if worker is None or peer in spec.excluded or (spec.only and peer not in spec.only):
            return Bar.EXCLUDED
        price = compute_price(worker.rates, spec.prompt_tokens, spec.max_tokens)
        if price > spec.max_price:
            return Bar.PRICE
        if (unfit := _unfit(worker, spec)) is not None:
            return unfit
        if tried and tried.get(peer, 0) > now_ms:
            return Bar.TRIED
        standing = self.standings.of(peer)
        if standing.not_before_ms > now_ms:
            return Bar.RESTING
        load = standing.load
        if load >= self.backlog * worker.max_batch:
            return Bar.FULL
        missing = 0
        for adapter in spec.adapters:
            missing += peer not in view.holding(spec.base, adapter)
        work_us = standing.token_us * min(spec.max_tokens, self.estimates.tokens)
        load_us = self.estimates.load_ms * 1000
        success_ppm = standing.success_ppm(now_ms)
        return Candidate(worker, missing, load, standing.outstanding, price, work_us, load_us, success_ppm)

    def is_able(self, now_ms: int, spec: AskSpec, peer: PeerId) -> bool:
        """Whether `peer` may serve the ask, now or when it has rested or has room."""
        found = self.assess(now_ms, spec, {}, peer)
        return isinstance(found, Candidate) or found in _PASSING

    def survey(self, now_ms: int, spec: AskSpec, tried: Mapping[PeerId, int]) -> Survey:
        """Why nobody may serve the ask; O(workers of its base)."""
        survey = Survey(spec.base, prompt_tokens=spec.prompt_tokens, max_tokens=spec.max_tokens)
        for peer in self.field.view.serving(spec.base):
            bar = self.assess(now_ms, spec, tried, peer)
            if not isinstance(bar, Bar):
                continue
            survey.bars[bar] += 1
            if bar is Bar.PRICE:
                price = compute_price(self._worker(peer).rates, spec.prompt_tokens, spec.max_tokens)
                survey.cheapest = price if survey.cheapest is None else min(price, survey.cheapest)
            elif bar is Bar.TOO_LONG:
                survey.longest = max(survey.longest, self._worker(peer).max_context)
            elif bar in (Bar.TRIED, Bar.RESTING):
                passed_ms = max(tried.get(peer, 0), self.standings.of(peer).not_before_ms)
                survey.next_ms = passed_ms if survey.next_ms is None else min(passed_ms, survey.next_ms)
        return survey

    def _anybody(self, now_ms: int, spec: AskSpec, tried: Mapping[PeerId, int]) -> Candidate | None:
        for peer in draw_any(self.field, spec):
            candidate = self.assess(now_ms, spec, tried, peer)
            if not isinstance(candidate, Bar):
                return candidate
        return None

    def _worker(self, peer: PeerId) -> WorkerView:
        worker = self.field.view.get(peer)
        assert worker is not None, "pools hold only workers of the view"
        return worker


def _unfit(worker: WorkerView, spec: AskSpec) -> Bar | None:
    """What this worker can never do for this ask."""
    if spec.artefact is not None and worker.artefact != spec.artefact:
        return Bar.ARTEFACT
    if spec.prompt_tokens + spec.max_tokens > worker.max_context:
        return Bar.TOO_LONG
    if spec.adapters and spec.rank > worker.max_rank:
        return Bar.RANK
    if worker.key_expires_ms < spec.deadline_ms:
        return Bar.KEY
    return None
