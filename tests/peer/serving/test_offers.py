"""What a worker's advert says of its engine at one moment, and what stays agreed."""

from __future__ import annotations

import pytest

from commonlore.peer.serving.offers import REMEMBERED_ADVERTS, Load, Offers, Terms
from commonlore.protocol.content.splits import BASE_SPLIT
from commonlore.protocol.encoding.codec import encode, record_hash
from commonlore.protocol.errors import Refused
from commonlore.protocol.gossip.adverts import Rates
from commonlore.protocol.ids import Address, Cid, cid_of
from commonlore.protocol.signing.bindings import bind
from commonlore.protocol.signing.eip712 import Domain
from commonlore.protocol.signing.envelope import MAX_ADVERT_BYTES
from commonlore.protocol.signing.keys import AccountKey, PeerKey

RATES = Rates(1, 2, 3)


@pytest.fixture
def offers() -> Offers:
    domain = Domain(31_337, Address(b"\xe5" * 20))
    owner, session = (AccountKey.from_secret(bytes([number]) * 32) for number in (1, 2))
    binding = bind(domain, owner, session, PeerKey.generate(b"\x03" * 32), 0, 1_000)
    terms = Terms(
        binding=lambda: binding,
        base=cid_of(b"base"),
        artefact=cid_of(b"artefact"),
        rates=RATES,
        base_split=BASE_SPLIT,
        max_context=2_048,
        max_batch=8,
        max_rank=64,
        slots=16,
        addresses=("/ip4/127.0.0.1/tcp/4001",),
    )
    return Offers(terms)


def adapters(count: int) -> tuple[tuple[Cid, int], ...]:
    return tuple((cid_of(bytes([number])), 8 << number % 4) for number in range(count))


def test_an_advert_says_what_the_engine_holds_and_does(offers: Offers) -> None:
    ad = offers.advertise(Load(3, 2, 500, adapters(2), 2), 7, 1_000)
    assert (ad.queue_depth, ad.running, ad.free_pages, ad.max_batch, ad.slots) == (3, 2, 500, 8, 16)
    assert tuple(zip(ad.resident, ad.resident_ranks, strict=True)) == adapters(2)
    assert (ad.resident_count, ad.seq, ad.issued_ms) == (2, 7, 1_000)


def test_of_many_adapters_the_first_are_named_and_all_are_counted(offers: Offers) -> None:
    ad = offers.advertise(Load(99_999, 0, 0, adapters(200), 7_000), 1, 1)
    assert tuple(zip(ad.resident, ad.resident_ranks, strict=True)) == adapters(32)
    assert (ad.resident_count, ad.queue_depth) == (7_000, 65_535)
    assert len(encode(ad)) < MAX_ADVERT_BYTES


def test_prices_hold_for_the_recent_adverts(offers: Offers) -> None:
    hashes = [record_hash(offers.advertise(Load(), seq, 1)) for seq in range(REMEMBERED_ADVERTS + 1)]
    assert offers.rates_of(hashes[1]) == RATES
    with pytest.raises(Refused, match="no longer honours"):
        offers.rates_of(hashes[0])
