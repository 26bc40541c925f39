"""Adapters of one answer, by their weights."""

from __future__ import annotations

from dataclasses import dataclass

from ..encoding.fields import U32
from ..ids import Cid

MAX_ADAPTERS = 8


@dataclass(frozen=True, slots=True)
class AdapterWeight:
    """One adapter of a request; weights of several are parts per million of the composition."""

    adapter: Cid
    weight_ppm: U32
