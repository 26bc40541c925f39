"""Pages of keys and values: who holds which, and which may be used again because they hold a known prefix.

Rules of this file:
- A page's key is a hash chain over artefact, adapter composition and every token up to the page's end.
  Whatever differs in any of them has other keys, so no answer is ever computed from another adapter's pages.
- A page is free, held (by one or more block tables), or cached: keyed and held by nobody, the oldest evicted
  first.
- Page 0 is never given out; it pads block tables. Pure: no tensors here.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np

from ....protocol.content.compositions import AdapterWeight
from ....protocol.ids import Cid, digest_of

PADDING_PAGE = 0


def root_key(artefact: Cid, adapters: Iterable[AdapterWeight]) -> bytes:
    """Where the chain of a request begins. The order of a composition does not matter."""
    parts = sorted(digest_of(one.adapter) + one.weight_ppm.to_bytes(4, "big") for one in adapters)
    return hashlib.blake2b(digest_of(artefact) + b"".join(parts), digest_size=32).digest()


def next_key(previous: bytes, tokens: Sequence[int]) -> bytes:
    """The key of the page that holds `tokens` after the page (or root) of key `previous`."""
    return hashlib.blake2b(previous + np.asarray(tokens, dtype="<u4").tobytes(), digest_size=32).digest()


class OutOfPages(Exception):
    """Every page is held."""


class PageAllocator:
    """Gives out, shares, and takes back pages 1 … count - 1."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = list(range(count - 1, 0, -1))
        self._holders: Counter[int] = Counter()
        self._key_of: dict[int, bytes] = {}
        self._page_of: dict[bytes, int] = {}
        self._cached: OrderedDict[int, None] = OrderedDict()

    @property
    def available(self) -> int:
        """Pages that can be allocated now: free and cached ones."""
        return len(self._free) + len(self._cached)

    def is_held(self, page: int) -> bool:
        """Whether any block table has it."""
        return page in self._holders

    def allocate(self, count: int) -> list[int]:
        """`count` pages, held once. Raises OutOfPages, and then gives none."""
        if count > self.available:
            raise OutOfPages
        return [self._allocate_one() for _ in range(count)]

    def _allocate_one(self) -> int:
        if self._free:
            page = self._free.pop()  # the last one freed: its memory is in use already
        else:
            page, _ = self._cached.popitem(last=False)
            del self._page_of[self._key_of.pop(page)]
        self._holders[page] = 1
        return page

    def match(self, keys: Iterable[bytes]) -> list[int]:
        """The pages of the longest prefix of `keys` that is known, each held once more."""
        found: list[int] = []
        for key in keys:
            page = self._page_of.get(key)
            if page is None:
                break
            self._cached.pop(page, None)
            self._holders[page] += 1
            found.append(page)
        return found

    def register(self, page: int, key: bytes) -> None:
        """From now on `key` means this held, completely computed page; another page that has the key keeps
        it.
        """
        if key not in self._page_of and page not in self._key_of:
            self._page_of[key] = page
            self._key_of[page] = key

    def forget(self, pages: Iterable[int]) -> None:
        """The pages' contents are worthless: their keys mean nothing any more."""
        for page in pages:
            key = self._key_of.pop(page, None)
            if key is not None:
                del self._page_of[key]

    def release(self, pages: Sequence[int]) -> None:
        """One holder of these pages lets go. The end of a prefix is evicted before its beginning."""
        for page in reversed(pages):
            self._holders[page] -= 1
            if self._holders[page]:
                continue
            del self._holders[page]
            if page in self._key_of:
                self._cached[page] = None
            else:
                self._free.append(page)

    def check_integrity(self, tables: Iterable[Sequence[int]]) -> None:
        """Raises AssertionError unless held pages are exactly those in the block tables and every page is in
        one state.
        """
        if Counter(page for table in tables for page in table) != self._holders:
            raise AssertionError("pages are held by other block tables than the living ones")
        states = [*self._free, *self._cached, *self._holders]
        if sorted(states) != list(range(1, self.count)):
            raise AssertionError("a page is lost or in two states")
        if {page: key for key, page in self._page_of.items()} != self._key_of:
            raise AssertionError("page keys and pages disagree")
        if not self._cached.keys() <= self._key_of.keys():
            raise AssertionError("a cached page has no key")
