"""What each part of a prompt did to an answer: by leaving parts out and looking at the answer's loss.

Rules of this file:
- Up to LEAVE_ONE_OUT parts are left out one by one. Of more, ABLATIONS random halves are left out and a ridge
  regression of the loss on who was there tells the parts apart (ContextCite, arXiv 2409.00729, with ridge for
  its lasso: every part gets its own number, and rows that say the same share theirs).
- Which halves is a function of the answer (SHAKE-256), so that two attributors leave out the same.
- Losses are nats over all output tokens; effects are how much likelier a part made them, in millionths, zero
  where it did not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...protocol.errors import AttributionFailed
from ...protocol.receipts.records import Effects, PartEffect
from ...protocol.requests.prompt_parts import without_parts
from ...protocol.requests.records import ChatMessage, Prompt

LEAVE_ONE_OUT = 8
ABLATIONS = 32
RIDGE = 1.0
MICRO = 1_000_000
Bools = npt.NDArray[np.bool_]


def plan_ablations(parts: int, seed: bytes) -> Bools:
    """Which parts are there, (variants, parts); the first variant has them all."""
    if parts <= LEAVE_ONE_OUT:
        return np.concatenate([np.ones((1, parts), bool), ~np.eye(parts, dtype=bool)])
    size = -(-parts // 8)
    stream = hashlib.shake_256(b"commonlore/ablation/1" + seed).digest(ABLATIONS * size)
    bits = np.unpackbits(np.frombuffer(stream, np.uint8).reshape(ABLATIONS, size), axis=1)[:, :parts]
    return np.concatenate([np.ones((1, parts), bool), bits.astype(bool)])


def ablated(prompt: Prompt, seed: bytes) -> list[tuple[ChatMessage, ...]]:
    """The turns of every planned variant of a prompt."""
    present = plan_ablations(len(prompt.parts), seed)
    return [without_parts(prompt, np.flatnonzero(~row).tolist()) for row in present]


def measured_effects(prompt: Prompt, seed: bytes, losses: Sequence[float]) -> Effects | None:
    """What the parts of a prompt did, from the losses of `ablated` and last that of the whole prompt without
    the adapter; None where it has no parts. Raises AttributionFailed.
    """
    if not prompt.parts:
        return None
    *varied, bare = losses
    if not np.isfinite(bare):
        raise AttributionFailed("a loss of an answer without its adapter is not a number")
    effects = zip(
        prompt.parts, estimate_effects(plan_ablations(len(prompt.parts), seed), varied), strict=True
    )
    found = tuple(PartEffect(part.channel, part.part, part.payee, effect) for part, effect in effects)
    return Effects(max(0, round((bare - varied[0]) * MICRO)), found)


def estimate_effects(present: Bools, losses: Sequence[float]) -> list[int]:
    """Each part's effect in micro-nats, at least 0, from the losses of the planned variants.

    Raises AttributionFailed where a loss is not finite or there are not as many as variants.
    """
    values = np.asarray(losses, np.float64)
    if values.shape != (len(present),) or not np.isfinite(values).all():
        raise AttributionFailed("a loss of an answer without a part of its prompt is not a number")
    parts = present.shape[1]
    effects = values[1:] - values[0] if parts <= LEAVE_ONE_OUT else _regress(present, values)
    return [max(0, round(float(effect) * MICRO)) for effect in effects]


def _regress(present: Bools, losses: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """By how much each part's presence lowers the loss, by ridge regression with a free intercept."""
    x = present.astype(np.float64)
    centred = x - x.mean(axis=0)
    gram = centred.T @ centred + RIDGE * np.eye(x.shape[1])
    solved: npt.NDArray[np.float64] = np.linalg.solve(gram, centred.T @ (losses - losses.mean()))
    return -solved
