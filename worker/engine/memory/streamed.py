"""Memory that a step streams through (weights, keys and values, slots), and that adapters are read into.

Rules of this file:
- It asks the kernel for huge pages (madvise), which torch's allocations do not get: on 4 KiB pages a core of
  the machine that was measured reads 22 GB/s, on 2 MiB pages 32 GB/s, and a decoding step is mostly reading.
- Nothing is taken before it is written: fresh memory is zero. A GPU's memory is torch's own matter.
- The first write of a page is the kernel's work; where a hypervisor has to find the page, it takes 20 times
  as long as a copy (2 ms a MB measured). What will be written soon is found ahead, beside other work.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...models.tensor_file import Allocate, new_bytes
from .devices import CPU

HUGE_PAGE = 2 << 20
_CHUNK = 64 << 20
_ALIGNMENT = 64
_SMALL_PAGE = mmap.PAGESIZE
_MADV_POPULATE_WRITE = 23
"""Linux 5.14 and later (man 2 madvise)."""
_FINDER = ThreadPoolExecutor(1, "memory")


def zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device = CPU) -> Tensor:
    """Zeros. On the CPU they take memory only when they are first written. Raises MemoryError."""
    if device.type != "cpu":
        return _on_device(shape, dtype, device)
    size = math.prod(shape) * dtype.itemsize
    return _map(size)[:size].view(dtype).view(shape)


def fresh(size: int, dtype: torch.dtype) -> Tensor:
    """`size` zeros on the CPU, of no more memory than they take: huge pages only where they fit inside.

    Raises MemoryError.
    """
    return torch.frombuffer(_mapped(max(size, 1) * dtype.itemsize), dtype=dtype)[:size]


def _on_device(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    try:
        return torch.zeros(shape, dtype=dtype, device=device)
    except torch.OutOfMemoryError as wrong:
        raise MemoryError(str(wrong)) from None


def find_ahead(tensor: Tensor) -> Future[None]:
    """Have the kernel find memory for all of a tensor of fresh zeros, in a thread that does only this.

    Its numbers stay as they are, and whoever writes meanwhile need not know. Where the system cannot, the
    first write finds the memory.
    """
    return _FINDER.submit(_populate, tensor)


def _populate(tensor: Tensor) -> None:
    if tensor.device.type != "cpu" or sys.platform != "linux":
        return
    start = tensor.data_ptr() // _SMALL_PAGE * _SMALL_PAGE
    size = tensor.data_ptr() + tensor.nbytes - start
    # not mmap.madvise: that keeps the interpreter's lock
    ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), _MADV_POPULATE_WRITE)


class Arena:
    """Tensors side by side in huge pages. They live as long as one of the views does."""

    def __init__(self) -> None:
        self._chunk = torch.empty(0, dtype=torch.uint8)
        self._used = 0

    def keep(self, tensor: Tensor) -> Tensor:
        """A contiguous copy that stays where it is, aligned to 64 bytes. Raises MemoryError."""
        size = tensor.numel() * tensor.dtype.itemsize
        if self._used + size > len(self._chunk):
            self._chunk, self._used = _map(max(size, _CHUNK)), 0
        place = self._chunk[self._used : self._used + size].view(tensor.dtype).view(tensor.shape)
        self._used += -(-size // _ALIGNMENT) * _ALIGNMENT
        return place.copy_(tensor)


def _map(size: int) -> Tensor:
    """Bytes that begin at a huge page, at least `size` of them."""
    whole = -(-max(size, 1) // HUGE_PAGE) * HUGE_PAGE
    found = torch.frombuffer(_mapped(whole + HUGE_PAGE), dtype=torch.uint8)
    start = -found.data_ptr() % HUGE_PAGE
    return found[start : start + whole]


def _mapped(size: int) -> mmap.mmap:
    """Tensors of it keep it alive."""
    try:
        mapped = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as wrong:
        raise MemoryError(f"no memory for {size} bytes: {wrong.strerror}") from None
    if hasattr(mmap, "MADV_HUGEPAGE"):
        mapped.madvise(mmap.MADV_HUGEPAGE)
    return mapped


class Scratch:
    """Bytes to read files into, kept for the next reader: at most the largest that were asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept = np.empty(0, np.uint8)

    @property
    def bytes(self) -> int:
        """How many are kept."""
        return len(self._kept)

    @contextmanager
    def lend(self) -> Iterator[Allocate]:
        """What gives bytes until the block ends. Any thread; one that comes meanwhile gets others."""
        if not self._lock.acquire(blocking=False):
            yield new_bytes
            return
        try:
            yield self._take
        finally:
            self._lock.release()

    def _take(self, size: int) -> npt.NDArray[np.uint8]:
        if size > len(self._kept):
            self._kept = new_bytes(size)
        return self._kept[:size]
