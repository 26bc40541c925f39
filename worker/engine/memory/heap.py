"""The C library's heap, of an engine's own process.

Rules of this file:
- glibc gives a large array that is freed back to the kernel, and the next one costs a fault a page: for
  arrays of a vocabulary that takes three times as long as what the sampler computes in them.
"""

from __future__ import annotations

import ctypes
import sys

LARGEST = 4 << 20
"""Bytes of an array that is handed out again: a million numbers of 32 bits."""
KEPT = 32 << 20
"""Bytes that are kept free, at most."""
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_freed() -> None:
    """From now on use memory again that was freed; nothing happens where the C library is not glibc."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, LARGEST)
        library.mallopt(_M_TRIM_THRESHOLD, KEPT)
