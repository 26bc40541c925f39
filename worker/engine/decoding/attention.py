"""What a step's rows attend to in the paged cache: two ways to compute it, and the choice between them.

Rules of this file:
- Rows of sequences that decode come first, one each; then the rows of each prompt chunk.
- `Gathered` copies the pages that are attended to and calls scaled_dot_product_attention, for a group of
  decoding rows or a chunk at a time: every device, precision and page size.
- `Paged` is one call of torch's varlen_attn, which reads the pages where they lie. The FlashAttention 2 in
  torch computes fp16 and bf16 on GPUs from compute capability 8.0 on, over pages whose size is a multiple of
  256 tokens.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.architecture import Architecture
from ..batching.pages import PADDING_PAGE
from ..memory.devices import CPU
from .cache import KvCache

log = logging.getLogger("commonlore.worker.engine")
PAGE_MULTIPLE = 256
"""Of a page's tokens, for `Paged`."""
_NEEDED = frozenset({"block_table", "seqused_k", "enable_gqa"})
_TOLERANCE = 0.05
"""Between the two ways in bf16, for attended values of a unit normal distribution."""


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens [start, start + count) of the sequence whose pages are `table`."""

    table: Sequence[int]
    start: int
    count: int

    @property
    def end(self) -> int:
        """Tokens in the cache after this step."""
        return self.start + self.count

    def pages(self, page_size: int) -> Sequence[int]:
        """Those that hold these tokens and the ones before."""
        return self.table[: -(-self.end // page_size)]


class Attention(Protocol):
    """One step's attention."""

    def attend(self, layer: int, queries: Tensor, cache: KvCache) -> Tensor:
        """[rows, heads · head_dim], of queries [rows, heads, head_dim]."""
        ...


Planner = Callable[[Sequence[Span], int, torch.device], Attention]
"""(the step's spans, page size, device) → its attention."""
Kernel = Callable[..., Tensor]
"""torch's varlen_attn."""


def choose_attention(
    architecture: Architecture, dtype: torch.dtype, page_size: int, device: torch.device
) -> Planner:
    """The paged kernel where it computes this, else gathering."""
    kernel = varlen_kernel()
    reason = _why_not_paged(kernel, architecture, dtype, page_size, device)
    if reason is None and kernel is not None:
        return partial(plan_paged, kernel)
    if device.type == "cuda" and dtype != torch.float32:
        log.warning("the engine copies keys and values together for every step: %s", reason)
    return plan_gathered


def _why_not_paged(
    kernel: Kernel | None,
    architecture: Architecture,
    dtype: torch.dtype,
    page_size: int,
    device: torch.device,
) -> str | None:
    if device.type != "cuda" or dtype == torch.float32:
        return "the paged kernel computes in bf16 on CUDA"
    if kernel is None:
        return f"torch {torch.__version__} has no paged varlen_attn"
    if page_size % PAGE_MULTIPLE:
        return f"the paged kernel wants pages of a multiple of {PAGE_MULTIPLE} tokens, not {page_size}"
    if architecture.head_dim % 8 or architecture.head_dim > 256:
        return f"the paged kernel has no heads of {architecture.head_dim} numbers"
    return rehearse(kernel, architecture, dtype, page_size, device)


def varlen_kernel() -> Kernel | None:
    """torch's varlen_attn, if it takes a paged cache."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    kernel: Kernel = varlen_attn  # type: ignore[assignment]  # it returns a pair only where one is asked for
    return kernel if inspect.signature(kernel).parameters.keys() >= _NEEDED else None


def rehearse(
    kernel: Kernel, architecture: Architecture, dtype: torch.dtype, page_size: int, device: torch.device
) -> str | None:
    """Try a decoding row beside a chunk and compare with gathering: what is wrong, or None."""
    cache = KvCache(replace(architecture, layers=1), 4, page_size, dtype, device)
    cache.keys.normal_()
    cache.values.normal_()
    spans = (Span((3, 1), page_size, 1), Span((2,), 1, 4))
    queries = torch.randn(5, architecture.heads, architecture.head_dim, dtype=dtype, device=device)
    wanted = plan_gathered(spans, page_size, device).attend(0, queries, cache)
    try:
        found = plan_paged(kernel, spans, page_size, device).attend(0, queries, cache)
    except (RuntimeError, ValueError, TypeError) as wrong:
        return f"the paged kernel fails: {wrong}"
    difference = float((found - wanted).abs().max())
    return None if difference < _TOLERANCE else f"the paged kernel is wrong by {difference}"


# ---- gathering


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows [start, end) are consecutive tokens of one prompt. `table` is [1, pages]; `length` tokens are in
    the cache after this step; `mask` is [end - start, length], or None where the chunk is the whole sequence
    so far (plain causal).
    """

    start: int
    end: int
    table: Tensor
    length: int
    mask: Tensor | None

    def attend(self, layer: int, queries: Tensor, cache: KvCache) -> Tensor:
        """Of these rows."""
        keys, values = (part[:, :, : self.length] for part in cache.read(layer, self.table))
        attended = F.scaled_dot_product_attention(
            queries[self.start : self.end].transpose(0, 1).unsqueeze(0),
            keys,
            values,
            attn_mask=self.mask,
            is_causal=self.mask is None,
            enable_gqa=True,
        )
        return attended.squeeze(0).transpose(0, 1).reshape(self.end - self.start, -1)


@dataclass(frozen=True, slots=True)
class Decoding:
    """Rows 0 … count - 1, one token each.

    `tables` is [count, pages], `mask` [count, 1, 1, pages · page_size].
    """

    count: int
    tables: Tensor
    mask: Tensor

    def attend(self, layer: int, queries: Tensor, cache: KvCache) -> Tensor:
        """Of these rows."""
        keys, values = cache.read(layer, self.tables)
        # the query heads of one key head stand where a sequence's positions would: no copies of the keys
        grouped = queries[: self.count].view(self.count, keys.shape[1], -1, keys.shape[3])
        return F.scaled_dot_product_attention(grouped, keys, values, attn_mask=self.mask).reshape(
            self.count, -1
        )


@dataclass(frozen=True, slots=True)
class Gathered:
    """Decoding rows, if there are any, then chunks."""

    parts: tuple[Decoding | Chunk, ...]

    def attend(self, layer: int, queries: Tensor, cache: KvCache) -> Tensor:
        """See Attention."""
        found = [part.attend(layer, queries, cache) for part in self.parts]
        return found[0] if len(found) == 1 else torch.cat(found)


def plan_gathered(spans: Sequence[Span], page_size: int, device: torch.device = CPU) -> Gathered:
    """Gathering; spans of one token come first."""
    count = sum(span.count == 1 for span in spans)
    parts: list[Decoding | Chunk] = [_decoding(spans[:count], page_size, device)] if count else []
    row = count
    for span in spans[count:]:
        table = torch.tensor(span.pages(page_size), device=device)[None]
        parts.append(Chunk(row, row + span.count, table, span.end, _chunk_mask(span, device)))
        row += span.count
    return Gathered(tuple(parts))


def _decoding(spans: Sequence[Span], page_size: int, device: torch.device) -> Decoding:
    tables = torch.tensor(_tables(spans, page_size), device=device)
    lengths = torch.tensor([span.end for span in spans], device=device)
    mask = torch.arange(tables.shape[1] * page_size, device=device)[None] < lengths[:, None]
    return Decoding(len(spans), tables, mask[:, None, None])


def _chunk_mask(span: Span, device: torch.device) -> Tensor | None:
    if span.start == 0:
        return None
    positions = torch.arange(span.end, device=device)
    return positions[None] <= positions[span.start :, None]


def _tables(spans: Sequence[Span], page_size: int) -> list[list[int]]:
    """Block tables side by side, the shorter ones padded."""
    used = [span.pages(page_size) for span in spans]
    width = max(map(len, used))
    return [[*pages, *[PADDING_PAGE] * (width - len(pages))] for pages in used]


# ---- the paged kernel


@dataclass(frozen=True, slots=True)
class Paged:
    """All spans in one call. Tensors are int32: where the rows of each begin and end [spans + 1], where its
    keys would if they lay side by side [spans + 1], tokens in the cache [spans], block tables [spans, pages].
    `most_rows` and `longest` are of one span.
    """

    kernel: Kernel
    rows: Tensor
    places: Tensor
    lengths: Tensor
    tables: Tensor
    most_rows: int
    longest: int

    def attend(self, layer: int, queries: Tensor, cache: KvCache) -> Tensor:
        """See Attention."""
        attended = self.kernel(
            queries,
            cache.keys[layer],
            cache.values[layer],
            self.rows,
            self.places,
            self.most_rows,
            self.longest,
            # aligned at the last key; a single row sees all anyway, and unmasked its heads share their keys
            window_size=(-1, -1) if self.most_rows == 1 else (-1, 0),
            enable_gqa=True,
            seqused_k=self.lengths,
            block_table=self.tables,
        )
        return attended.flatten(1)


def plan_paged(kernel: Kernel, spans: Sequence[Span], page_size: int, device: torch.device) -> Paged:
    """The paged kernel."""
    tables = torch.tensor(_tables(spans, page_size), dtype=torch.int32, device=device)
    width = tables.shape[1] * page_size
    rows = [0, *accumulate(span.count for span in spans)]
    places = range(0, width * len(rows), width)
    lengths = [span.end for span in spans]
    return Paged(
        kernel=kernel,
        rows=torch.tensor(rows, dtype=torch.int32, device=device),
        places=torch.tensor(places, dtype=torch.int32, device=device),
        lengths=torch.tensor(lengths, dtype=torch.int32, device=device),
        tables=tables,
        most_rows=max(span.count for span in spans),
        longest=max(lengths),
    )
