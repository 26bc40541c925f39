"""An index's rows as they are written, one after another: a byte of weight, then one bit a place.

Rules of this file: the first place is the highest bit of its byte, set where positive; a place's value is the
row's weight with that sign. Rows are unpacked some at a time: all of a large index would be eight times its
bytes. The contract `Indexes` reads the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap

import numpy as np

from ..errors import RemoteProtocolError
from .scoring import Int8s

LIGHTEST, HEAVIEST = 8, 64
"""Bounds of a row's weight."""
_ROWS_AT_ONCE = 256
Blob = bytes | mmap
"""An index's rows or sums: in memory, or a mapped file."""


def write_row(vector: Int8s) -> bytes:
    """A row's weighted signs as an index holds them."""
    return bytes([abs(int(vector[0]))]) + np.packbits(vector > 0).tobytes()


def read_rows(blob: bytes, width: int) -> Int8s:
    """Written rows as (rows, width). Raises RemoteProtocolError on weights that no row has."""
    written = np.frombuffer(blob, np.uint8).reshape(-1, 1 + width // 8)
    weights = written[:, :1]
    if written.size and not LIGHTEST <= weights.min() <= weights.max() <= HEAVIEST:
        raise RemoteProtocolError(f"an index row's weight lies outside {LIGHTEST} … {HEAVIEST}")
    signs = np.unpackbits(written[:, 1:], axis=1).view(np.int8)
    return (2 * signs - 1) * weights.view(np.int8)


def row_parts(blob: Blob, width: int, start: int = 0, end: int | None = None) -> Iterator[Int8s]:
    """An index's rows as (some rows, width), until all between two places were there. Raises
    RemoteProtocolError."""
    end, step = len(blob) if end is None else end, _ROWS_AT_ONCE * (1 + width // 8)
    for at in range(start, end, step):
        yield read_rows(blob[at : min(at + step, end)], width)
