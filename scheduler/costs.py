"""What a token costs an ask at a worker with so many asks, in microseconds: its own time, that of its
company, and the wait for a place.

The weights were found by simulation (`benchmarks/policies.py`, seeds below 100).
"""

from __future__ import annotations

OWN_SHARE = 2
"""An ask's own time counts by half: most of it passes after the first token."""
CROWD_FACTOR = 2
"""How much a full batch weighs, in times of the ask's own time: sequences slow each other down, and what is
not known of yet comes on top."""
QUEUE_FACTOR = 2
"""A waiting ask takes so many times what its tokens would take at the worker's usual speed: its batch is
full, and prompts are read between."""


def token_cost_us(token_us: int, load: int, batch: int) -> int:
    """At a worker that takes `token_us` for a token and has `load` asks for a batch of `batch`."""
    if load < batch:
        return token_us // OWN_SHARE + CROWD_FACTOR * token_us * load // batch
    queued_us = (load + 1 - batch) * QUEUE_FACTOR * token_us // batch
    return token_us // OWN_SHARE + CROWD_FACTOR * token_us + queued_us


def queue_ms(token_us: int, tokens: int, load: int, batch: int) -> int:
    """How long an ask waits there for a place in the batch, if those before it have `tokens` each."""
    waiting = load + 1 - batch
    return waiting * QUEUE_FACTOR * token_us * tokens // batch // 1000 if waiting > 0 else 0
