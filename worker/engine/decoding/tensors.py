"""From a step's plan (sequences, token ranges, block tables) to the tensors that the decoder takes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..batching.steps import Work
from ..memory.devices import CPU
from .attention import Planner, Span, plan_gathered
from .decoder import Batch


def build_batch(
    works: Sequence[Work], page_size: int, device: torch.device = CPU, plan: Planner = plan_gathered
) -> Batch:
    """The batch of `works`, those of one token first; wanted are the logits of each one's last token."""
    tokens: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    last: list[int] = []
    for work in works:
        table = work.sequence.table
        end = work.start + work.count
        tokens += work.sequence.tokens[work.start : end]
        positions += range(work.start, end)
        slots += [table[t // page_size] * page_size + t % page_size for t in range(work.start, end)]
        last.append(len(tokens) - 1)
    rows = torch.tensor([tokens, positions, slots], device=device)  # one copy to the device
    spans = [Span(work.sequence.table, work.start, work.count) for work in works]
    return Batch(
        tokens=rows[0],
        positions=rows[1],
        slots=rows[2],
        attention=plan(spans, page_size, device),
        wanted=torch.tensor(last, device=device),
    )
