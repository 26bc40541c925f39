"""flash-attn's face over torch's own attention, for machines where flash-attn is not installed.

exllamav2 batches only with flash-attn, which is an hour's build; of it the paged path uses one function. It
is here twice: over `varlen_attn`, which reads the pages where they are (CUDA), and over a gather and
scaled_dot_product_attention, which runs anywhere and copies them.

Rules of this file:
- `register` must come before exllamav2's first import, and leaves an installed flash-attn alone.
- Attention is causal and bottom-right aligned: the last query sees every key. No window and no soft cap, so
  the signatures have none, which is how exllamav2 learns that it must not ask.
- Pages are [pages, page_size, kv heads, head_dim], tables int32 [rows, pages of a row], queries
  [rows, count, heads, head_dim].
"""

from __future__ import annotations

import importlib.util
import inspect
import logging
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

log = logging.getLogger("commonlore.worker.engine")
VERSION = "2.8.0"
"""Not older than the 2.5.7 that exllamav2 asks for."""


def register() -> None:
    """Put the modules in flash-attn's place, where it is not installed."""
    if importlib.util.find_spec("flash_attn") is not None:
        return
    face = _module("flash_attn", __version__=VERSION)
    for function in (flash_attn_func, flash_attn_varlen_func, flash_attn_with_kvcache):
        setattr(face, function.__name__, function)
    _module("flash_attn_2_cuda")  # imported, and used by tensor parallelism only


def _module(name: str, **contents: object) -> ModuleType:
    module = sys.modules[name] = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    vars(module).update(contents)
    return module


# ---- what exllamav2 calls


def flash_attn_with_kvcache(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    k: Tensor | None = None,
    v: Tensor | None = None,
    *,
    cache_seqlens: Tensor,
    block_table: Tensor,
    causal: bool = True,
    softmax_scale: float | None = None,
) -> Tensor:
    """Write `k` and `v`, if any, behind the `cache_seqlens` keys of each row; attend to all of them."""
    if not causal:
        raise NotImplementedError("paged attention that is not causal")
    lengths = cache_seqlens
    if k is not None and v is not None:
        _write(k_cache, k, cache_seqlens, block_table)
        _write(v_cache, v, cache_seqlens, block_table)
        lengths = cache_seqlens + k.shape[1]
    return _attend(q, k_cache, v_cache, lengths, block_table, softmax_scale)


def flash_attn_func(
    q: Tensor, k: Tensor, v: Tensor, causal: bool = False, softmax_scale: float | None = None
) -> Tensor:
    """Without pages: k and v are [rows, keys, kv heads, head_dim]."""
    count, keys = q.shape[1], k.shape[1]
    mask = torch.ones(count, keys, dtype=torch.bool, device=q.device).tril(keys - count) if causal else None
    return _sdpa(q, k, v, mask, softmax_scale)


def flash_attn_varlen_func(*_arguments: object) -> Tensor:
    """Only vision models ask for this."""
    raise NotImplementedError("attention over packed sequences needs flash-attn itself")


# ---- over pages


def _write(pages: Tensor, new: Tensor, lengths: Tensor, table: Tensor) -> None:
    """Store [rows, count, kv heads, head_dim] behind the first `lengths` tokens of each row."""
    size = pages.shape[1]
    positions = lengths.long()[:, None] + torch.arange(new.shape[1], device=new.device)
    found = table.long().gather(1, positions // size)
    pages[found, positions % size] = new


def attend_gathered(
    q: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, table: Tensor, scale: float | None
) -> Tensor:
    """Each row's pages copied side by side, what lies behind its length masked."""
    count = q.shape[1]
    k, v = (pages[table.long()].flatten(1, 2) for pages in (keys, values))
    positions = torch.arange(table.shape[1] * keys.shape[1], device=q.device)
    last = lengths.long()[:, None] - count + torch.arange(count, device=q.device)
    return _sdpa(q, k, v, (positions <= last[..., None]).unsqueeze(1), scale)


def attend_in_place(
    q: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, table: Tensor, scale: float | None
) -> Tensor:
    """The pages read where they are, by torch's flash attention (CUDA)."""
    from torch.nn.attention.varlen import varlen_attn

    rows, count = q.shape[:2]
    lengths = lengths.int()
    attended = varlen_attn(
        q.flatten(0, 1),
        keys,
        values,
        torch.arange(0, (rows + 1) * count, count, dtype=torch.int32, device=q.device),
        F.pad(lengths.cumsum(0), (1, 0)).int(),
        count,
        table.shape[1] * keys.shape[1],
        scale=scale,
        window_size=(-1, 0),
        enable_gqa=True,
        seqused_k=lengths,
        block_table=table.int(),
    )
    assert isinstance(attended, Tensor)  # the auxiliary outputs were not asked for
    return attended.view(q.shape)


def _sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=True)
    return attended.transpose(1, 2)


def _reads_pages() -> bool:
    """Whether this torch's `varlen_attn` knows block tables."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    return "block_table" in inspect.signature(varlen_attn).parameters


class _Attend:
    """In place where torch can, and gathered for good from its first refusal on."""

    def __init__(self) -> None:
        self._in_place = _reads_pages()

    def __call__(
        self, q: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, table: Tensor, scale: float | None
    ) -> Tensor:
        if self._in_place and q.is_cuda:
            try:
                return attend_in_place(q, keys, values, lengths, table, scale)
            except (RuntimeError, NotImplementedError) as refusal:
                log.warning("paged attention falls back to gathered pages: %s", refusal)
                self._in_place = False
        return attend_gathered(q, keys, values, lengths, table, scale)


_attend = _Attend()
