"""What the proofs take an adapter's part of a receipt to be is what Python divides."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonlore.contracts.artefacts import HERE, read_artefact
from commonlore.contracts.client.proving import receipt_tuple
from commonlore.contracts.deploying.terms import Accounts
from commonlore.contracts.staging.cast import AUTHOR, START, TERMS
from commonlore.contracts.staging.revm import RevmNetwork
from commonlore.protocol.content.compositions import MAX_ADAPTERS, AdapterWeight
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.ids import RAW, Address, cid_of, cid_of_digest, digest_of
from commonlore.protocol.receipts.credits import apportion
from commonlore.protocol.receipts.parts import part_of
from commonlore.protocol.receipts.records import Receipt, Shares

ONE = Address(b"\x01" * 20)
RECEIPT = Receipt(
    bytes(32),
    ONE,
    ONE,
    1,
    0,
    0,
    cid_of(b"artefact"),
    (),
    1,
    1,
    bytes(32),
    0,
    Shares(0, 0, 0, 0, 0),
    bytes(32),
)


@pytest.fixture(scope="module")
def network():
    network = RevmNetwork(TERMS, Accounts(AUTHOR.address), START)
    network.add("PartsReader", read_artefact(HERE / "test" / "PartsReader.json"))
    return network


def mixed(weights):
    """Adapters of these weights, whose digests are in another order than they and than their texts."""
    names = [bytes([(37 * n + 11) % 256]) * 32 for n in range(len(weights))]
    return tuple(
        AdapterWeight(cid_of_digest(name, RAW), weight) for name, weight in zip(names, weights, strict=True)
    )


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 3) | st.integers(0, 10**6), min_size=1, max_size=MAX_ADAPTERS),
    st.lists(st.integers(0, 40) | st.integers(0, 2**127), min_size=5, max_size=5),
)
def test_a_part_is_the_same_on_chain(network, weights, amounts):
    ppm = apportion(
        PPM - len(weights), [weight + 1 for weight in weights], [bytes([n]) for n in range(len(weights))]
    )
    receipt = replace(RECEIPT, adapters=mixed([part + 1 for part in ppm]), shares=Shares(*amounts))
    assert network.read("PartsReader", "areWhole", receipt_tuple(receipt))
    for adapter in [*(digest_of(entry.adapter) for entry in receipt.adapters), b"\x07" * 32, bytes(32)]:
        own = part_of(receipt, adapter)
        expected = (own.platform, own.worker, own.author, own.work_pool, own.contributors)
        assert tuple(network.read("PartsReader", "partOf", receipt_tuple(receipt), adapter)) == expected


def test_without_an_adapter_all_is_the_part_of_none(network):
    receipt = replace(RECEIPT, shares=Shares(1, 2, 0, 3, 0))
    assert list(network.read("PartsReader", "partOf", receipt_tuple(receipt), bytes(32))) == [1, 2, 0, 3, 0]
    assert list(network.read("PartsReader", "partOf", receipt_tuple(receipt), b"\x01" * 32)) == [0] * 5


@pytest.mark.parametrize(
    ("weights", "whole"),
    [
        ([PPM], True),
        ([PPM - 1], False),
        ([PPM, 0], False),
        ([1] * 7 + [PPM - 7], True),
        ([1] * 8 + [PPM - 8], False),
        ([2**32 - 1, PPM + 1], False),
        ([], True),
    ],
)
def test_few_adapters_that_make_a_whole(network, weights, whole):
    receipt = replace(RECEIPT, adapters=mixed(weights))
    assert network.read("PartsReader", "areWhole", receipt_tuple(receipt)) == whole


def test_the_same_adapter_twice_is_no_whole(network):
    entry = AdapterWeight(cid_of(b"adapter"), PPM // 2)
    assert not network.read(
        "PartsReader", "areWhole", receipt_tuple(replace(RECEIPT, adapters=(entry, entry)))
    )
