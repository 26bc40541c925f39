"""How long a client waits for a worker's next message before it turns to another one.

Rules of this file: a wait has two ends. After `soft_s` a worker is left if another could answer now; after
`hard_s` in any case. A soft end comes at the latest when half of the time to the deadline has passed, so that
a worker which says nothing never costs the whole of it; a worker that nobody could replace is not left for
that, for leaving it would only lose a place in its line. Seconds everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from ...protocol.inference.messages import Accepted

ACCEPT_PATIENCE_S = 30.0
"""How long a worker may take to admit or refuse an ask: it may have to find an adapter's manifest first."""
FIRST_TOKEN_PATIENCE_S = 20.0
"""How long an admitted ask that has to wait for nothing may be without a token, beside reading its prompt."""
ADAPTER_PATIENCE_S = 40.0
"""How much longer where the worker said that it has to make an adapter ready."""
TURN_PATIENCE_S = 20.0
"""How much longer for each batch of asks that the worker said are ahead in its line."""
SLOWEST_PREFILL = 50
"""Prompt tokens a second below which a worker counts as silent."""
SILENCE_PATIENCE_S = 60.0
"""How long a worker may say nothing once it has begun to answer."""
SHARE_OF_TIME_LEFT = 0.5
LEAST_PATIENCE_S = 2.0
"""Nobody is left sooner than this: with so little time another could not answer either."""
RECONSIDER_S = 1.0
"""How often a client whose patience is over looks whether another worker has room by now."""


@dataclass(frozen=True, slots=True)
class Patience:
    """`soft_s`: then a worker is left for another one; `hard_s`: then it is left."""

    soft_s: float
    hard_s: float = inf


def until_accepted(left_s: float) -> Patience:
    """After the ask, with `left_s` to the deadline."""
    return Patience(_at_most_half(ACCEPT_PATIENCE_S, left_s), ACCEPT_PATIENCE_S)


def until_first_token(said: Accepted, max_batch: int, prompt_tokens: int, left_s: float) -> Patience:
    """After being admitted: what the worker announced, in its line and its adapters, and a long prompt make
    the wait longer. Without anybody else an ask waits in line until its deadline."""
    turns = -(-said.queue_depth // max(1, max_batch))
    announced = FIRST_TOKEN_PATIENCE_S + prompt_tokens / SLOWEST_PREFILL + turns * TURN_PATIENCE_S
    if not said.adapter_ready:
        announced += ADAPTER_PATIENCE_S
    return Patience(_at_most_half(announced, left_s))


def until_next(left_s: float) -> Patience:
    """Between the messages of an answer that has begun."""
    return Patience(_at_most_half(SILENCE_PATIENCE_S, left_s), SILENCE_PATIENCE_S)


def _at_most_half(patience_s: float, left_s: float) -> float:
    return min(patience_s, max(LEAST_PATIENCE_S, SHARE_OF_TIME_LEFT * left_s))
