"""What makes one worker better than another for an ask. The lowest score wins.

Rules of this file: a score is made of what is already known of the worker, in a few operations on integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter

from ..protocol.ids import Cid
from ..protocol.receipts.credits import compute_price
from .costs import queue_ms
from .estimates import Way
from .members import Member
from .query import Query
from .standing import PPM

Score = Callable[[Member, Query], int]
Choice = tuple[Member | None, int]
"""A worker and its score; nobody yet."""
Choose = Callable[[Sequence[Member], Query, Choice], Choice]
"""The best of some workers, or who was the best before, unless one is better."""

RELOAD_EXTRA_MS = 100
"""What a worker that reloads an adapter loses beside the time: a slot, which another adapter had."""
RANK_STEP_PPM = 1_000
"""How much longer a token takes for each rank by which a batch is padded."""
TTFT_MS = 2_000
"""The time to the first token that will do, for asks that do not say."""


BEYOND = 1 << 200
"""Above every score."""
NOBODY: Choice = (None, BEYOND)


def lowest(score: Score) -> Choose:
    """The first of those with the lowest score; one of 0 ends the search."""

    def choose(members: Sequence[Member], query: Query, before: Choice) -> Choice:
        best, least = before
        for member in members:
            found = score(member, query)
            if found < least:
                best, least = member, found
                if found == 0:
                    break
        return best, least

    return choose


def score_equal(member: Member, query: Query) -> int:
    """The first drawn will do."""
    return 0


def score_outstanding(member: Member, query: Query) -> int:
    """Our own asks there."""
    return member.standing.outstanding


def score_load(member: Member, query: Query) -> int:
    """Everybody's asks there, against its batch; in parts per million."""
    return member.standing.load_at(query.now_ms) * PPM // member.max_batch


def score_room(member: Member, query: Query) -> int:
    """Whether its batch is full."""
    return int(member.standing.load_at(query.now_ms) >= member.max_batch)


def score_price(member: Member, query: Query) -> int:
    """The price; at equal prices the emptier one."""
    spec = query.spec
    price = compute_price(member.rates, spec.prompt_tokens, spec.max_tokens)
    return price * PPM + min(score_load(member, query), PPM - 1)


def score_cached(member: Member, query: Query) -> int:
    """How much of the prompt it would have to read anew, and the emptier one; a full batch reads nothing
    soon."""
    load_ppm = score_load(member, query)
    unread = query.spec.prompt_tokens - query.cached.get(member, 0)
    return unread * PPM // max(1, query.spec.prompt_tokens) + load_ppm * (1 + load_ppm // PPM)


def outlook(member: Member, query: Query) -> tuple[Way, int, int]:
    """What the worker has to do for the ask's adapters, how many milliseconds that takes, and the wait before
    it: for a place in the batch, or for what is being fetched already."""
    standing, now_ms, batch = member.standing, query.now_ms, member.max_batch
    load = standing.load_at(now_ms) if standing.foreign else standing.outstanding
    wait_ms = queue_ms(standing.token_us, query.tokens, load, batch) if load >= batch else 0
    way, own_ms = Way.HELD, 0
    for adapter in query.spec.adapters:
        ready_ms = member.held.get(adapter)
        if ready_ms is not None:
            if ready_ms > now_ms + wait_ms:
                wait_ms = ready_ms - now_ms
        elif adapter in standing.past:
            own_ms += query.estimates.reload_ms
            way = Way.RELOAD if way is Way.HELD else way
        else:
            own_ms += query.estimates.fetch_ms
            wait_ms = max(wait_ms, member.line_free_ms - now_ms)
            way = Way.FETCH
    return way, own_ms, wait_ms


def soonest(members: Sequence[Member], query: Query, before: Choice) -> Choice:
    """By `score_time`, by which most asks are routed, in fewer steps: waiting only adds to what the tokens
    cost, so the cheapest by the token is looked at first, and others only where they could still be better.
    """
    if query.cached or not members:
        return _by_time(members, query, before)
    tokens, (best, least) = query.tokens, before
    cheapest = min(members, key=_cost_us)
    score = cheapest.cost_us * tokens
    if score >= least:
        return before
    if score < 0:
        return _by_time(members, query, before)
    wait_us = _wait_us(cheapest, query)
    if score + wait_us < least:
        best, least = cheapest, score + wait_us
    if wait_us:
        for member in members:
            score = member.cost_us * tokens
            if score < least and member is not cheapest:
                score += _wait_us(member, query)
                if score < least:
                    best, least = member, score
    return best, least


def _wait_us(member: Member, query: Query) -> int:
    """How long the ask waits for its adapters there, and what that costs others."""
    wait_us = 0
    for adapter in query.spec.adapters:
        ready_ms = member.held.get(adapter)
        if ready_ms is None:
            wait_us += _miss_us(member, query, adapter)
        elif ready_ms > query.now_ms:
            wait_us += (ready_ms - query.now_ms) * 1000
    return wait_us


def score_time(member: Member, query: Query) -> int:
    """The expected microseconds until the answer is whole, and what the ask costs others; the longer the
    likelier it is to fail.

    A miss costs others what misses cost of late: it takes the line from other loads, so the price of one
    rises with the line's load. What it need not read again of the prompt is saved.
    """
    cost_us = member.cost_us if member.cost_us >= 0 else member.cost_at(query.now_ms)
    score = cost_us * query.tokens + _wait_us(member, query)
    return score - query.cached.get(member, 0) * query.estimates.prompt_us if query.cached else score


_by_time = lowest(score_time)
_cost_us = attrgetter("cost_us")


def _miss_us(member: Member, query: Query, adapter: Cid) -> int:
    """What it costs that the worker has to load this adapter."""
    estimates = query.estimates
    if adapter in member.standing.past:
        return (estimates.reload_ms + RELOAD_EXTRA_MS) * 1000
    line_ms = max(0, member.line_free_ms - query.now_ms)
    return (line_ms + estimates.fetch_ms + estimates.miss_ms) * 1000


def score_rank(member: Member, query: Query) -> int:
    """The expected time, and what padding to the larger rank costs this ask or the others of its batch."""
    padding = abs(member.top_rank - query.spec.rank) if query.spec.adapters and member.top_rank else 0
    load = max(1, member.standing.load_at(query.now_ms)) if member.top_rank < query.spec.rank else 1
    sequences = min(load, member.max_batch)
    slower_us = member.standing.token_us * query.tokens * padding * sequences * RANK_STEP_PPM // PPM
    return score_time(member, query) + slower_us


def score_slo(member: Member, query: Query) -> int:
    """The cheapest of those that are expected to give the first token in time; else the one that is the
    soonest."""
    target_ms = query.spec.ttft_ms if query.spec.ttft_ms is not None else TTFT_MS
    _, own_ms, wait_ms = outlook(member, query)
    ttft_ms = query.estimates.held_ms + own_ms + wait_ms + member.standing.lag_us // 1000
    if ttft_ms <= target_ms:
        return score_price(member, query)
    return (1 << 100) + score_time(member, query)
