from __future__ import annotations

import random

import pytest

from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.ids import cid_of
from commonlore.worker.engine.batching.pages import OutOfPages, PageAllocator, next_key, root_key

ARTEFACT, A, B = cid_of(b"artefact"), cid_of(b"a"), cid_of(b"b")


def test_allocates_every_page_but_the_padding_page() -> None:
    pages = PageAllocator(5)
    assert sorted(pages.allocate(4)) == [1, 2, 3, 4]
    with pytest.raises(OutOfPages):
        pages.allocate(1)


def test_gives_none_when_there_are_too_few() -> None:
    pages = PageAllocator(4)
    with pytest.raises(OutOfPages):
        pages.allocate(4)
    assert pages.available == 3


def test_shares_a_known_prefix_and_no_more() -> None:
    pages = PageAllocator(8)
    held = pages.allocate(3)
    for page, key in zip(held, (b"1", b"2", b"3"), strict=True):
        pages.register(page, key)
    assert pages.match([b"1", b"2", b"x", b"3"]) == held[:2]
    pages.check_integrity([held, held[:2]])


def test_evicts_the_end_of_the_oldest_prefix_first() -> None:
    pages = PageAllocator(5)
    first, second = pages.allocate(2), pages.allocate(2)
    for page, key in zip(first + second, (b"1", b"2", b"3", b"4"), strict=True):
        pages.register(page, key)
    pages.release(first)
    pages.release(second)
    assert pages.allocate(1) == [first[1]]
    assert pages.match([b"1", b"2"]) == [first[0]]


def test_forgotten_pages_are_never_matched() -> None:
    pages = PageAllocator(4)
    held = pages.allocate(2)
    pages.register(held[0], b"1")
    pages.forget(held)
    pages.release(held)
    assert pages.match([b"1"]) == []
    pages.check_integrity([])


def test_a_page_keeps_its_first_key_and_a_key_its_first_page() -> None:
    pages = PageAllocator(4)
    first, second = pages.allocate(2)
    pages.register(first, b"1")
    pages.register(second, b"1")
    pages.register(first, b"2")
    assert pages.match([b"1"]) == [first]
    assert pages.match([b"2"]) == []


def test_stays_whole_under_random_use() -> None:
    chance, pages, tables = random.Random(3), PageAllocator(24), []
    for turn in range(2000):
        match chance.randrange(4):
            case 0:
                keys = [b"%d" % n for n in range(chance.randrange(6))]
                tables.append(pages.match(keys))
            case 1 if pages.available >= 3:
                tables.append(pages.allocate(3))
            case 2 if tables:
                for index, page in enumerate(chance.choice(tables)):
                    pages.register(page, b"%d" % index)
            case _ if tables:
                pages.release(tables.pop(chance.randrange(len(tables))))
        pages.check_integrity(tables)
        if turn % 97 == 0 and tables:
            pages.forget(tables[0])


def test_keys_differ_by_artefact_composition_and_every_token() -> None:
    whole = (AdapterWeight(A, PPM),)
    roots = {
        root_key(ARTEFACT, ()),
        root_key(cid_of(b"other"), ()),
        root_key(ARTEFACT, whole),
        root_key(ARTEFACT, (AdapterWeight(B, PPM),)),
        root_key(ARTEFACT, (AdapterWeight(A, 400_000), AdapterWeight(B, 600_000))),
        root_key(ARTEFACT, (AdapterWeight(A, 600_000), AdapterWeight(B, 400_000))),
    }
    assert len(roots) == 6
    assert len({next_key(root, tokens) for root in roots for tokens in ([1, 2], [2, 1], [1, 3])}) == 18


def test_the_order_of_a_composition_does_not_matter() -> None:
    two = (AdapterWeight(A, 400_000), AdapterWeight(B, 600_000))
    assert root_key(ARTEFACT, two) == root_key(ARTEFACT, two[::-1])
