"""Why a worker may not serve an ask, and what to tell people when nobody may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from ..protocol.ids import Cid
from ..protocol.receipts.credits import compute_price
from .events import AskSpec
from .members import Member
from .query import Query


class Bar(Enum):
    """Why a worker may not serve an ask: those of `PASSING` pass by themselves."""

    EXCLUDED = "excluded"
    ARTEFACT = "loads another artefact"
    TOO_LONG = "has too small a context"
    RANK = "takes no adapter of this rank"
    PRICE = "is too dear"
    KEY = "has a session key that expires too soon"
    TRIED = "was tried"
    RESTING = "is resting after failures or refusals"
    FULL = "is full"


PASSING = frozenset((Bar.TRIED, Bar.RESTING, Bar.FULL))


def may_serve(member: Member, query: Query) -> bool:
    """Whether nothing bars the worker: `bar_of` says the same, and why, for more. What most often bars one in
    a network that has too much to do is looked at first."""
    standing, now_ms = member.standing, query.now_ms
    if standing.not_before_ms > now_ms:
        return False
    if standing.outstanding + standing.foreign >= member.room and standing.load_at(now_ms) >= member.room:
        return False
    if query.tried and query.tried.get(member.peer, 0) > now_ms:
        return False
    return _suits(member, query.spec)


def bar_of(member: Member, query: Query) -> Bar | None:
    """What keeps the worker from serving the ask now; None if it may."""
    if _suits_surely(member, query.spec):
        return _pause_of(member, query)
    return _wish_of(member, query.spec) or _limit_of(member, query.spec) or _pause_of(member, query)


def _suits(member: Member, spec: AskSpec) -> bool:
    """Whether the worker may serve the ask when it has rested and has room."""
    return _suits_surely(member, spec) or not (_wish_of(member, spec) or _limit_of(member, spec))


def _suits_surely(member: Member, spec: AskSpec) -> bool:
    """The same in fewer steps, which hold nearly always."""
    tokens = spec.prompt_tokens + spec.max_tokens
    return (
        not (spec.only or spec.excluded or spec.artefact)
        and tokens <= member.max_context
        and tokens * member.dearest // 1000 + member.fee <= spec.max_price
        and spec.deadline_ms <= member.key_expires_ms
        and spec.rank <= member.max_rank
    )


def _wish_of(member: Member, spec: AskSpec) -> Bar | None:
    """What the ask says of workers."""
    peer = member.peer
    if peer in spec.excluded or (spec.only and peer not in spec.only):
        return Bar.EXCLUDED
    if price_of(member, spec) > spec.max_price:
        return Bar.PRICE
    if spec.artefact is not None and member.artefact != spec.artefact:
        return Bar.ARTEFACT
    return None


def _limit_of(member: Member, spec: AskSpec) -> Bar | None:
    """What the worker cannot do."""
    if spec.prompt_tokens + spec.max_tokens > member.max_context:
        return Bar.TOO_LONG
    if spec.rank > member.max_rank and spec.adapters:
        return Bar.RANK
    return Bar.KEY if member.key_expires_ms < spec.deadline_ms else None


def _pause_of(member: Member, query: Query) -> Bar | None:
    """What passes."""
    standing, now_ms = member.standing, query.now_ms
    if query.tried and query.tried.get(member.peer, 0) > now_ms:
        return Bar.TRIED
    if standing.not_before_ms > now_ms:
        return Bar.RESTING
    return Bar.FULL if standing.load_at(now_ms) >= member.room else None


def price_of(member: Member, spec: AskSpec) -> int:
    """The most that the ask can cost there."""
    return compute_price(member.rates, spec.prompt_tokens, spec.max_tokens)


def next_chance(members: Iterable[Member], query: Query) -> tuple[int | None, bool]:
    """When the first of those that rest, or that this ask has just tried, may serve it; and whether others
    are full, of which nobody knows when they will have room."""
    tried, spec, now_ms = query.tried, query.spec, query.now_ms
    soonest_ms: int | None = None
    is_full = False
    for member in members:
        standing = member.standing
        ready_ms = standing.not_before_ms
        if tried:
            ready_ms = max(ready_ms, tried.get(member.peer, 0))
        if ready_ms > now_ms:
            if (soonest_ms is None or ready_ms < soonest_ms) and _suits(member, spec):
                soonest_ms = ready_ms
        elif not is_full:
            is_full = standing.load_at(now_ms) >= member.room and _suits(member, spec)
    return soonest_ms, is_full


@dataclass(slots=True)
class Survey:
    """Those who serve the base, by what bars them."""

    base: Cid
    bars: Counter[Bar] = field(default_factory=Counter[Bar])
    cheapest: int | None = None
    longest: int = 0
    """The largest context of those that are too small."""
    prompt_tokens: int = 0
    max_tokens: int = 0

    def count(self, member: Member, query: Query) -> None:
        """Ask one worker."""
        bar = bar_of(member, query)
        if bar is None:
            return
        self.bars[bar] += 1
        if bar is Bar.PRICE:
            price = price_of(member, query.spec)
            self.cheapest = price if self.cheapest is None else min(price, self.cheapest)
        elif bar is Bar.TOO_LONG:
            self.longest = max(self.longest, member.max_context)

    @property
    def code(self) -> str:
        """The stable word for the shortage, as in `protocol.errors` and
        `protocol.inference.messages.RefusalCode`."""
        if any(self.bars[bar] for bar in PASSING):
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
