"""How an adapter's factors lie in memory: packed once, then copied whole into a slot.

Rules of this file:
- A packed adapter is one contiguous block. All adapters of a rank bucket have blocks of the same size, so any
  of them fits any slot of that bucket's pool, and filling a slot is one copy.
- What multiplies with the factors and what packs them are written together, as one layout; nothing else knows
  what the block's numbers mean, only that zeros change nothing.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from concurrent.futures import Future
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ...models.architecture import block_of
from ...models.tensor_file import TensorFile
from ..memory.devices import CPU
from ..memory.streamed import find_ahead, fresh
from ..types import AdapterSource, PackedSize

SMALLEST_BUCKET = 8


def rank_bucket(rank: int) -> int:
    """The bucket of this rank: 8, 16, 32, 64 and so on. A small adapter is not padded to a large one's
    rank.
    """
    return max(SMALLEST_BUCKET, 1 << (rank - 1).bit_length())


class LoraLayout(ABC):
    """One way to lay out factors. Any thread may use it. The slots are on `device`."""

    dtype: torch.dtype
    device: torch.device = CPU

    @abstractmethod
    def size(self, bucket: int) -> int:
        """Elements of a slot of this bucket."""

    @abstractmethod
    def pack(self, file: TensorFile, source: AdapterSource) -> Tensor:
        """A validated file's factors in RAM: contiguous, 1-D, `size` elements of `dtype`.

        alpha / rank is multiplied in with 32 bits; Malformed when the file is cut meanwhile.
        """

    @abstractmethod
    def find_next(self) -> None:
        """After packing, beside other work: have memory found for the next adapter of the same bucket."""

    @property
    @abstractmethod
    def spare_bytes(self) -> int:
        """What that takes now."""

    def bucket_of(self, source: AdapterSource) -> int:
        """The bucket that this adapter goes to."""
        return rank_bucket(source.rank)

    def bytes(self, source: AdapterSource) -> int:
        """What this adapter takes in RAM, and in a slot."""
        return self.size(self.bucket_of(source)) * self.dtype.itemsize

    def packed_sizes(self, max_rank: int) -> tuple[PackedSize, ...]:
        """Of all buckets up to this rank's."""
        buckets = [SMALLEST_BUCKET]
        while buckets[-1] < max_rank:
            buckets.append(2 * buckets[-1])
        return tuple(PackedSize(bucket, self.size(bucket) * self.dtype.itemsize) for bucket in buckets)


class Blanks:
    """Zeros to pack adapters into. Of every size that was taken, `find_next` has one more found ahead.

    Any thread. Each takes no more memory than its size; pinned, up to twice as much, and nothing ahead.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spares: dict[tuple[int, torch.dtype], tuple[Tensor, Future[None]]] = {}
        self._missing: set[tuple[int, torch.dtype]] = set()

    @property
    def bytes(self) -> int:
        """What was found ahead, and is taken by nobody yet."""
        return sum(blank.nbytes for blank, _ in tuple(self._spares.values()))

    def take(self, size: int, dtype: torch.dtype, pinned: bool = False) -> Tensor:
        """1-D, of `size` numbers."""
        if pinned:  # torch keeps such memory, and hands it out in powers of two
            return torch.zeros(size, dtype=dtype, pin_memory=True)
        with self._lock:
            spare = self._spares.get((size, dtype))
            if spare is not None and not spare[1].done():
                return fresh(size, dtype)
            self._spares.pop((size, dtype), None)
            self._missing.add((size, dtype))
        return fresh(size, dtype) if spare is None else spare[0]

    def find_next(self) -> None:
        """In place of those that were taken. Finding memory slows down whoever writes to fresh memory."""
        with self._lock:
            for size, dtype in self._missing:
                blank = fresh(size, dtype)
                self._spares[size, dtype] = blank, find_ahead(blank)
            self._missing.clear()


@lru_cache(maxsize=256)
def factor_names(layers: int, linear: str, side: str) -> tuple[str, ...]:
    """The names of one factor (`side` A or B) of a linear in all layers, as files have them."""
    prefix = "base_model.model.model.layers."
    return tuple(f"{prefix}{layer}.{block_of(linear)}.{linear}.lora_{side}.weight" for layer in range(layers))


def read_factor(file: TensorFile, layers: int, linear: str, side: str) -> Tensor:
    """A ([layers, rank, in]) or B ([layers, out, rank]) of a linear in all layers of a validated file.

    Raises Malformed when the file is cut meanwhile.
    """
    names = factor_names(layers, linear, side)
    if all(file.tensors[name].dtype == "BF16" for name in names):
        words = np.stack([file.words(file.tensors[name]) for name in names])
        return torch.from_numpy(words).view(torch.bfloat16)
    return torch.from_numpy(np.stack([file.array(name) for name in names]))
