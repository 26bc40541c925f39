"""Several examples as one sequence: what they share at the beginning is computed once.

Rules of this file:
- Packed losses and gradients are those of the examples one by one (to rounding): a token sees the shared
  beginning and its own example's earlier tokens, at the positions it would have alone. Questions of one
  Datanet share a system turn and most of a question, so a batch is about half as long as its examples
  together.
- A batch of long examples is packed in portions: attention's memory grows with the square of their length.
- Logits are computed only where an answer is scored: the head is a fifth of a small model's work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from .examples import Example

MOST_TOGETHER = 2048
"""Tokens of examples that are packed together: 4 GB of SmolLM2-135M's attention, forwards and backwards."""


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """`tokens`, `positions` (1, length); `visible` (1, 1, length, length) is where attention may look;
    `sources` are the places whose logits predict `targets`, both (scored,)."""

    tokens: Tensor
    positions: Tensor
    visible: Tensor
    sources: Tensor
    targets: Tensor


def portions(examples: Sequence[Example]) -> Iterator[list[Example]]:
    """The examples in their order, as many together as may be packed."""
    portion: list[Example] = []
    for example in examples:
        if portion and sum(len(each.tokens) for each in [*portion, example]) > MOST_TOGETHER:
            yield portion
            portion = []
        portion.append(example)
    yield portion


def pack(examples: Sequence[Example]) -> Packed:
    """One sequence of the examples.

    The shared beginning ends before the first place that predicts an answer.
    """
    shared = _shared_length([example.tokens[: example.answer_start - 1] for example in examples])
    tokens, positions, owners = list(examples[0].tokens[:shared]), list(range(shared)), [0] * shared
    sources: list[int] = []
    targets: list[int] = []
    for owner, example in enumerate(examples, 1):
        offset = len(tokens) - shared
        tokens += example.tokens[shared:]
        positions += range(shared, len(example.tokens))
        owners += [owner] * (len(example.tokens) - shared)
        sources += range(offset + example.answer_start - 1, offset + len(example.tokens) - 1)
        targets += example.tokens[example.answer_start :]
    return Packed(
        torch.tensor([tokens]),
        torch.tensor([positions]),
        _visible(torch.tensor(owners)),
        torch.tensor(sources),
        torch.tensor(targets),
    )


def _shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts have in common at the beginning."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False)))


def _visible(owners: Tensor) -> Tensor:
    same = owners[:, None] == owners[None, :]
    earlier = torch.ones(len(owners), len(owners), dtype=torch.bool).tril()
    return ((same | (owners == 0)[None, :]) & earlier)[None, None]


def answer_losses(model: Any, packed: Packed, dtype: torch.dtype) -> Tensor:
    """Nats of each scored token, (scored,) float32, under a transformers causal language model of this
    dtype.
    """
    blocked = torch.zeros(packed.visible.shape, dtype=dtype).masked_fill(
        ~packed.visible, torch.finfo(dtype).min
    )
    hidden = model.model(
        input_ids=packed.tokens, position_ids=packed.positions, attention_mask=blocked, use_cache=False
    ).last_hidden_state[0]
    logits = model.lm_head(hidden[packed.sources]).float()
    return torch.nn.functional.cross_entropy(logits, packed.targets, reduction="none")


@torch.no_grad()
def mean_loss(model: Any, examples: Sequence[Example], batch_size: int, dtype: torch.dtype) -> float | None:
    """Nats a token of answer, over all scored tokens of the examples; None where there are none."""
    total, count = 0.0, 0
    for start in range(0, len(examples), batch_size):
        losses = answer_losses(model, pack(examples[start : start + batch_size]), dtype)
        total, count = total + losses.double().sum().item(), count + len(losses)
    return total / count if count else None
