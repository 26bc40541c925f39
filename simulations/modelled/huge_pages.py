"""Huge pages for what is in memory: on Linux, where they are had for the asking.

A network of 100,000 peers lies in half a gigabyte that is read here and there, and a good part of the time
goes into finding out where its small pages are. Python's allocator does not ask for large ones, so they are
asked for afterwards: what is there is put together at once, which copies it.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

HUGE = 2 << 20
_COLLAPSE = 25
"""MADV_COLLAPSE, since Linux 6.1; an older one refuses it, and nothing is lost."""


def use_huge_pages() -> int:
    """Put private writable memory into huge pages; how many bytes of it now are, or may be."""
    if not sys.platform.startswith("linux"):
        return 0
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return sum(end - start for start, end in _ranges() if advise(start, end - start, _COLLAPSE) == 0)


def _ranges() -> Iterator[tuple[int, int]]:
    """Where this process has private writable memory of its own, in whole huge pages."""
    for line in Path("/proc/self/maps").read_text(encoding="ascii", errors="replace").splitlines():
        place, rights, *_, name = [*line.split(maxsplit=5), ""][:6]
        if rights == "rw-p" and name in ("", "[heap]"):
            start, end = (int(each, 16) for each in place.split("-"))
            start, end = -(-start // HUGE) * HUGE, end // HUGE * HUGE
            if end > start:
                yield start, end
