"""The adapters' two products for a whole step, as Triton kernels. Imported only where Triton is.

Rules of this file:
- A tile is at most 16 consecutive rows that add the same terms; an item is one term of one tile. `shrink`
  makes each item's narrow product x Aᵀ, in float32 and times the term's weight; `expand` multiplies a tile's
  narrow products with their B and adds the sum to the output, once. So nothing is added from two sides, and
  no result depends on other tiles.
- Factors are read where they lie in the slots. The item table, int64 [5, items], has the addresses of its
  adapter's A [layers, parts · rank, in] and B [layers, parts · rank, out], its rank, or 0 where it changes
  nothing here, and its tile's first row and rows. Items of all ranks are side by side.
- The tile table, int64 [4, tiles], has a tile's first row, its rows, its first item and where its items end.
- Of B, which is block-diagonal, only the blocks are read.
- Products are of float32. Numbers of bf16 are exact in TF32, which is what tensor cores then take.
"""

from __future__ import annotations

import triton
import triton.language as tl

TILE = 16
"""Rows of a tile, and ranks that are computed together: the least that tensor cores multiply."""
BLOCK_IN = 128
BLOCK_OUT = 64
_compiled = triton.jit(
    # what changes from step to step is not worth compilations of its own
    do_not_specialize=["layer", "items", "tiles", "blocks"],
    do_not_specialize_on_alignment=["table", "weights", "tile_table", "edges"],
)


@_compiled
def shrink(
    x: tl.tensor,
    narrow: tl.tensor,
    table: tl.tensor,
    weights: tl.tensor,
    layer: int,
    items: int,
    blocks: int,
    IN: tl.constexpr,
    PARTS: tl.constexpr,
    SPLITS: tl.constexpr,
    PRECISION: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """narrow [SPLITS, items, TILE, PARTS · blocks · TILE]: x [rows, IN] times A, `blocks` being the ranks of
    a part in tiles. Grid: items, PARTS · blocks, SPLITS.
    """
    item = tl.program_id(0)
    column = tl.program_id(1)
    split = tl.program_id(2)
    rank = tl.load(table + 2 * items + item)
    part = column // blocks
    first = (column % blocks) * TILE
    if first >= rank:
        return
    start = tl.load(table + 3 * items + item)
    count = tl.load(table + 4 * items + item)
    factor = tl.load(table + item).to(tl.pointer_type(x.dtype.element_ty))
    factor = tl.multiple_of(factor, 16) + (layer * PARTS + part) * rank * IN
    lines = tl.arange(0, TILE)
    ranks = first + tl.arange(0, TILE)
    total = tl.zeros((TILE, TILE), dtype=tl.float32)
    for inner in range(split * BLOCK, IN, SPLITS * BLOCK):
        place = inner + tl.arange(0, BLOCK)
        rows = tl.load(
            x + (start + lines)[:, None] * IN + place[None, :],
            mask=(lines < count)[:, None] & (place < IN)[None, :],
            other=0.0,
        )
        down = tl.load(
            factor + ranks[None, :] * IN + place[:, None],
            mask=(ranks < rank)[None, :] & (place < IN)[:, None],
            other=0.0,
        )
        total += tl.dot(rows.to(tl.float32), down.to(tl.float32), input_precision=PRECISION)
    width = PARTS * blocks * TILE
    target = ((split * items + item) * TILE + lines)[:, None] * width
    target += (part * blocks * TILE + ranks)[None, :]
    tl.store(narrow + target, total * tl.load(weights + item))


@_compiled
def expand(
    narrow: tl.tensor,
    out: tl.tensor,
    table: tl.tensor,
    tile_table: tl.tensor,
    edges: tl.tensor,
    layer: int,
    items: int,
    tiles: int,
    blocks: int,
    OUT: tl.constexpr,
    ALIGN: tl.constexpr,
    PARTS: tl.constexpr,
    SPLITS: tl.constexpr,
    PRECISION: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """out [rows, OUT] += narrow times B. Columns edges[p] … edges[p + 1] are part p's, multiples of ALIGN.
    Grid: tiles, PARTS, blocks of the widest part.
    """
    tile = tl.program_id(0)
    part = tl.program_id(1)
    end = tl.multiple_of(tl.load(edges + part + 1), ALIGN)
    left = tl.multiple_of(tl.load(edges + part), ALIGN) + tl.program_id(2) * BLOCK
    if left >= end:
        return
    start = tl.load(tile_table + tile)
    count = tl.load(tile_table + tiles + tile)
    columns = left + tl.arange(0, BLOCK)
    lines = tl.arange(0, TILE)
    width = PARTS * blocks * TILE
    total = tl.zeros((TILE, BLOCK), dtype=tl.float32)
    for item in range(tl.load(tile_table + 2 * tiles + tile), tl.load(tile_table + 3 * tiles + tile)):
        rank = tl.load(table + 2 * items + item)
        factor = tl.load(table + items + item).to(tl.pointer_type(out.dtype.element_ty))
        factor = tl.multiple_of(factor, 16) + (layer * PARTS + part) * rank * OUT
        for first in range(0, rank, TILE):
            ranks = first + tl.arange(0, TILE)
            low = tl.zeros((TILE, TILE), dtype=tl.float32)
            for split in tl.static_range(SPLITS):
                source = ((split * items + item) * TILE + lines)[:, None] * width
                low += tl.load(narrow + source + (part * blocks * TILE + ranks)[None, :])
            up = tl.load(
                factor + ranks[:, None] * OUT + columns[None, :],
                mask=(ranks < rank)[:, None] & (columns < end)[None, :],
                other=0.0,
            )
            total += tl.dot(low, up.to(tl.float32), input_precision=PRECISION)
    target = out + (start + lines)[:, None] * OUT + columns[None, :]
    inside = (lines < count)[:, None] & (columns < end)[None, :]
    sums = tl.load(target, mask=inside, other=0.0).to(tl.float32) + total
    tl.store(target, sums.to(out.dtype.element_ty), mask=inside)
