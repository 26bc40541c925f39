"""What makes one worker better than another for an ask. The lowest score wins.

Rules of this file: a score is made of what is already known of the worker, in a few operations on integers; a
score of 0 ends the search.
"""

from __future__ import annotations

from collections.abc import Callable

from ..protocol.credits import compute_price
from .estimates import Way
from .members import Member
from .query import Query
from .standing import PPM, PRIOR_SUCCESS_PPM

Score = Callable[[Member, Query], int]

MISS_WEIGHT = 3
"""A miss costs more than its ask's wait: it takes the line from other loads and a slot from another adapter.
"""
RANK_STEP_PPM = 1_000
"""How much longer a token takes for each rank by which a batch is padded."""
TTFT_MS = 2_000
"""The time to the first token that will do, for asks that do not say."""


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


def score_time(member: Member, query: Query) -> int:
    """The expected microseconds until the answer is whole, the longer the likelier it is to fail."""
    standing, batch, now_ms = member.standing, member.max_batch, query.now_ms
    load = standing.outstanding
    if standing.foreign:
        load = standing.load_at(now_ms)
    work_us = standing.token_us * query.tokens
    if load < batch:
        slow_us, queue_us = work_us * load // batch, 0
    else:
        slow_us, queue_us = work_us, (load + 1 - batch) * work_us * Q // batch // 100
    load_ms = extra_ms = 0
    for adapter in query.spec.adapters:
        ready_ms = member.held.get(adapter)
        if ready_ms is None:
            if adapter in standing.past:
                load_ms += query.field.estimates.reload_ms
                extra_ms += R
            else:
                load_ms += max(0, member.line_free_ms - now_ms) * N // 100 + query.field.estimates.fetch_ms
                extra_ms += query.field.estimates.miss_ms * M // 100
        elif ready_ms > now_ms:
            load_ms += ready_ms - now_ms
    time_us = max(queue_us, load_ms * 1000) + extra_ms * 1000 + slow_us * C // 100 + work_us * W // 100 + standing.lag_us * L // 100
    worth_ppm = standing.worth_ppm
    if worth_ppm < PRIOR_SUCCESS_PPM:
        worth_ppm = standing.worth_at(now_ms)
    return time_us * PPM // worth_ppm if time_us > 0 else time_us


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
    ttft_us = query.field.estimates.held_ms * 1000 + member.standing.lag_us + 1000 * sum(late_ms(member, query)[1:])
    if ttft_us <= target_ms * 1000:
        return score_price(member, query)
    return (1 << 100) + score_time(member, query)

import os
Q,C,W,L,M,R,N = (int(os.environ.get("P_"+x, d)) for x, d in zip("QCWLMRN", (200,100,100,0,200,100,100)))

def late_ms(member: Member, query: Query) -> tuple[Way, int, int]:
    """What the worker has to do for the adapters, how long that takes (ms), and the wait before it."""
    standing, batch, now_ms = member.standing, member.max_batch, query.now_ms
    waiting = standing.load_at(now_ms) + 1 - batch
    wait_ms = waiting * standing.token_us * query.tokens * Q // 100 // batch // 1000 if waiting > 0 else 0
    way, own_ms, estimates = Way.HELD, 0, query.field.estimates
    for adapter in query.spec.adapters:
        ready_ms = member.held.get(adapter)
        if ready_ms is not None:
            wait_ms = max(wait_ms, ready_ms - now_ms)
        elif adapter in standing.past:
            own_ms += estimates.reload_ms
            way = Way.RELOAD if way is Way.HELD else way
        else:
            own_ms += estimates.fetch_ms
            wait_ms = max(wait_ms, member.line_free_ms - now_ms)
            way = Way.FETCH
    return way, own_ms, wait_ms
