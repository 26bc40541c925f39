"""Keys and values of all running sequences, in pages.

Rules of this file:
- Token t of a sequence lies in slot `block_table[t // page_size] * page_size + t % page_size`.
- Slots that were never written or belong to the past hold old finite numbers; attention masks them. Numbers
  that are not finite are scrubbed by whoever made them, since 0 · NaN is NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.architecture import Architecture
from ..memory.devices import CPU
from ..memory.streamed import zeros


class KvCache:
    """keys and values: [layers, pages, page_size, kv heads, head_dim]."""

    def __init__(
        self,
        architecture: Architecture,
        pages: int,
        page_size: int,
        dtype: torch.dtype,
        device: torch.device = CPU,
    ) -> None:
        shape = (architecture.layers, pages, page_size, architecture.kv_heads, architecture.head_dim)
        self.page_size = page_size
        self.keys = zeros(shape, dtype, device)
        self.values = zeros(shape, dtype, device)

    def write(self, layer: int, slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store [tokens, kv heads, head_dim] at their slots (int64 [tokens])."""
        self.keys[layer].flatten(0, 1).index_copy_(0, slots, keys)
        self.values[layer].flatten(0, 1).index_copy_(0, slots, values)

    def read(self, layer: int, tables: Tensor) -> tuple[Tensor, Tensor]:
        """Both of block tables [rows, pages]: each [rows, kv heads, pages · page_size, head_dim]."""
        return _gather(self.keys[layer], tables), _gather(self.values[layer], tables)

    def scrub(self, pages: list[int]) -> None:
        """Zero these pages."""
        self.keys[:, pages] = 0
        self.values[:, pages] = 0


def _gather(pages: Tensor, tables: Tensor) -> Tensor:
    rows, count = tables.shape
    found = pages.index_select(0, tables.flatten())
    return found.view(rows, count * pages.shape[1], *pages.shape[2:]).transpose(1, 2)
