"""What makes one worker better than another for an ask. The lowest score wins.

Rules of this file: a score is made of what is already known of the worker, in a few operations on integers; a
score of 0 ends the search. The weights were found by simulation (`benchmarks/policies.py`, seeds below 100).
"""

from __future__ import annotations

from collections.abc import Callable

from ..protocol.credits import compute_price
from .estimates import Way
from .members import Member
from .query import Query
from .standing import PPM, PRIOR_SUCCESS_PPM

Score = Callable[[Member, Query], int]

QUEUE_FACTOR = 2
"""A waiting ask takes so many times what its tokens would take at the worker's usual speed: its batch is
full, and prompts are read between."""
CROWD_FACTOR = 2
"""How much a full batch weighs, in times of the ask's own work: sequences slow each other down, and what is
not known of yet comes on top."""
RELOAD_EXTRA_MS = 100
"""What a worker that reloads an adapter loses beside the time: a slot, which another adapter had."""
LAG_BORNE_US = 1_500_000
"""First tokens may be so much later than expected before a worker's word is doubted."""
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


def outlook(member: Member, query: Query) -> tuple[Way, int, int]:
    """What the worker has to do for the ask's adapters, how many milliseconds that takes, and the wait before
    it: for a place in the batch, or for what is being fetched already."""
    standing, now_ms, estimates = member.standing, query.now_ms, query.estimates
    waiting = standing.load_at(now_ms) + 1 - member.max_batch
    wait_ms = own_ms = 0
    if waiting > 0:
        work_ms = standing.token_us * query.tokens // 1000
        wait_ms = waiting * QUEUE_FACTOR * work_ms // member.max_batch
    way = Way.HELD
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


def score_time(member: Member, query: Query) -> int:
    """The expected microseconds until the answer is whole, and what the ask costs others; the longer the
    likelier it is to fail.

    A miss costs others what misses cost of late: it takes the line from other loads, so the price of one
    rises with the line's load.
    """
    standing, batch, now_ms = member.standing, member.max_batch, query.now_ms
    load = standing.outstanding
    if standing.foreign:
        load = standing.load_at(now_ms)
    work_us = standing.token_us * query.tokens
    late_us = extra_ms = load_ms = 0
    if load < batch:
        crowd_us = CROWD_FACTOR * work_us * load // batch
    else:
        crowd_us = CROWD_FACTOR * work_us
        late_us = (load + 1 - batch) * QUEUE_FACTOR * work_us // batch
    for adapter in query.spec.adapters:
        ready_ms = member.held.get(adapter)
        if ready_ms is None:
            if adapter in standing.past:
                load_ms += query.estimates.reload_ms
                extra_ms += RELOAD_EXTRA_MS
            else:
                line_ms = member.line_free_ms - now_ms
                load_ms += query.estimates.fetch_ms + (line_ms if line_ms > 0 else 0)
                extra_ms += query.estimates.miss_ms
        elif ready_ms > now_ms:
            load_ms += ready_ms - now_ms
    if load_ms:
        late_us = max(late_us, load_ms * 1000) + extra_ms * 1000
    if standing.lag_us > LAG_BORNE_US:
        late_us += standing.lag_us
    worth_ppm = standing.worth_ppm
    if worth_ppm < PRIOR_SUCCESS_PPM:
        worth_ppm = standing.worth_at(now_ms)
    return (late_us + crowd_us + work_us // 2) * PPM // worth_ppm


def score_default(member: Member, query: Query) -> int:
    """The expected time, less what the worker need not read again of the prompt."""
    score = score_time(member, query)
    if query.cached:
        score -= query.cached.get(member, 0) * query.estimates.prompt_us
    return score


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
