"""Whose pages are found again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from commonlore.worker.engine.exllamav2.pages import Unsalted, root_of, salted_hash, visible

TOKENS = torch.arange(256)[None]


def chain(root: bytes) -> list[bytes]:
    with root_of(root):
        first = salted_hash(TOKENS, None)
        return [first, salted_hash(TOKENS + 1, first)]


def test_equal_tokens_under_other_roots_have_other_hashes_on_every_page() -> None:
    assert chain(b"one") == chain(b"one")
    assert not set(chain(b"one")) & set(chain(b"two"))


def test_a_first_page_without_a_root_is_a_defect() -> None:
    with pytest.raises(Unsalted):
        salted_hash(TOKENS, None)
    assert salted_hash(TOKENS, b"before")


def test_first_pages_are_seen_by_their_own_root_only() -> None:
    pages = [SimpleNamespace(prev_hash=prev) for prev in (b"mine", b"other", None, b"mine")]
    with visible(pages, b"mine"):  # type: ignore[arg-type]
        assert [page.prev_hash for page in pages] == [None, b"other", None, None]
        pages[3].prev_hash = b"written to"
    assert [page.prev_hash for page in pages] == [b"mine", b"other", None, b"written to"]
