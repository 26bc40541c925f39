"""From a step's plan (sequences, token ranges, block tables) to the tensors that the decoder takes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .batching import Work
from .decoder import Batch, Chunk, Decoding
from .pages import PADDING_PAGE


def build_batch(works: Sequence[Work], page_size: int) -> Batch:
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
    count = sum(work.count == 1 for work in works)
    return Batch(
        tokens=torch.tensor(tokens),
        positions=torch.tensor(positions),
        slots=torch.tensor(slots),
        decoding=_decoding(works[:count], page_size) if count else None,
        chunks=_chunks(works[count:], count, page_size),
        wanted=torch.tensor(last),
    )


def _decoding(works: Sequence[Work], page_size: int) -> Decoding:
    pages = max(work.start // page_size + 1 for work in works)
    tables = torch.full((len(works), pages), PADDING_PAGE)
    for row, work in enumerate(works):
        used = work.sequence.table[: work.start // page_size + 1]
        tables[row, : len(used)] = torch.tensor(used)
    lengths = torch.tensor([work.start + 1 for work in works])
    mask = torch.arange(pages * page_size)[None] < lengths[:, None]
    return Decoding(len(works), tables, mask[:, None, None])


def _chunks(works: Sequence[Work], row: int, page_size: int) -> tuple[Chunk, ...]:
    chunks: list[Chunk] = []
    for work in works:
        length = work.start + work.count
        table = torch.tensor(work.sequence.table[: -(-length // page_size)])[None]
        chunks.append(Chunk(row, row + work.count, table, length, _chunk_mask(work, length)))
        row += work.count
    return tuple(chunks)


def _chunk_mask(work: Work, length: int) -> Tensor | None:
    if work.start == 0:
        return None
    return torch.arange(length)[None] <= torch.arange(work.start, length)[:, None]
