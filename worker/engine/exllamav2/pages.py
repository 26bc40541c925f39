"""Whose pages a job may reuse: exllamav2 finds a page again by a hash of tokens alone, adapters left out.

Rules of this file:
- A page's hash begins with the job's root, H(artefact, adapters, weights): full pages under another adapter
  have other hashes. exllamav2 hashes deep inside, so the root is in a context variable around its methods.
- A page that is not full has no hash yet and is matched token by token against every page with the same
  predecessor; the first pages of all jobs have none. So a first page carries its root as predecessor, and
  looks as if it had none only while a job of that root prefills.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from .library import Page

_ROOT: ContextVar[bytes | None] = ContextVar("root", default=None)


class Unsalted(RuntimeError):
    """exllamav2 hashed a page outside of any job's root: a defect here."""


@contextmanager
def root_of(root: bytes) -> Iterator[None]:
    """Pages hashed inside belong to this root."""
    token = _ROOT.set(root)
    try:
        yield
    finally:
        _ROOT.reset(token)


def salted_hash(tokens: Tensor, previous: bytes | None) -> bytes:
    """In the place of exllamav2's hash of a page's tokens after a page (None: none)."""
    before = _ROOT.get() if previous is None else previous
    if before is None:
        raise Unsalted("a page was hashed without the root of its request")
    return hashlib.blake2b(before + tokens.numpy().tobytes(), digest_size=32).digest()


@contextmanager
def visible(pages: Iterable[Page], root: bytes) -> Iterator[None]:
    """First pages of this root look like first pages inside."""
    shown = [page for page in pages if page.prev_hash == root]
    for page in shown:
        page.prev_hash = None
    try:
        yield
    finally:
        for page in shown:
            if page.prev_hash is None:
                page.prev_hash = root
