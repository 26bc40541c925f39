"""What the contracts read from an adapter's manifest is what it says; of whatever else, nothing is read."""

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from commonlore.contracts.artefacts import HERE, read_artefact
from commonlore.contracts.deploying.terms import Accounts
from commonlore.contracts.staging.cast import MANIFEST, START, TERMS
from commonlore.contracts.staging.revm import RevmNetwork
from commonlore.protocol.content.manifests import PriorWeight
from commonlore.protocol.encoding.codec import encode, encode_value
from commonlore.protocol.ids import Address, checksummed, cid_of, to_address

AUTHOR = Address(b"TWENTY ASCII LETTERS")
KEY_AND_VALUE = b"\x6cauthor_payee\x54" + bytes(20)


@pytest.fixture(scope="module")
def network():
    network = RevmNetwork(TERMS, Accounts(AUTHOR), START)
    network.add("ManifestReader", read_artefact(HERE / "test" / "ManifestReader.json"))
    return network


def read(network, data):
    return to_address(network.read("ManifestReader", "authorPayee", data))


def refuse(network, data):
    return network.refusal(AUTHOR, "ManifestReader", "authorPayee", data)


@settings(max_examples=25)
@given(
    author=st.binary(min_size=20, max_size=20),
    payees=st.lists(st.binary(min_size=20, max_size=20), min_size=1, max_size=40),
    words=st.text(max_size=60),
    size=st.integers(0, 2**64 - 1),
    parents=st.integers(0, 8),
)
@example(b"\xff" * 20, [bytes(20)], KEY_AND_VALUE[:14].decode() + AUTHOR.decode(), 0, 0)
def test_the_author_is_read_from_wherever_it_stands(network, author, payees, words, size, parents):
    """Also where a text pretends to be the field, and whatever stands before it."""
    manifest = replace(
        MANIFEST,
        author_payee=Address(author),
        priors=tuple(PriorWeight(Address(payee), 1) for payee in payees),
        licence=words,
        weights_size=size,
        parents=tuple(cid_of(bytes([n])) for n in range(parents)),
    )
    assert read(network, encode(manifest)) == author


def test_a_key_inside_a_value_is_passed_over(network):
    inside = {"b": {"author_payee": bytes(20)}, "c": [KEY_AND_VALUE, {"author_payee": b"\x01" * 20}]}
    assert read(network, encode_value({**inside, "author_payee": bytes(AUTHOR)})) == AUTHOR
    assert refuse(network, encode_value(inside)) == "NotManifest"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xa1",
        encode_value([1, 2]),
        encode_value({"author_payee": "text"}),
        encode_value({"author_payee": bytes(19)}),
        b"\xa1\x6cauthor_payee\x54" + bytes(19),
        b"\xa1\x6cauthor_payee\x58",
        b"\xbf" + KEY_AND_VALUE + b"\xff",
        b"\xa2\x01\x02" + KEY_AND_VALUE,
        b"\xa2\x61a\xc0\x61b" + KEY_AND_VALUE,
        b"\xa2\x61a\xfb" + bytes(8) + KEY_AND_VALUE,
        b"\xa2\x61a\x9b" + b"\xff" * 8 + KEY_AND_VALUE,
        b"\xa2\x61a\x5b" + b"\xff" * 8 + KEY_AND_VALUE,
    ],
)
def test_of_what_is_no_manifest_nothing_is_read(network, data):
    assert refuse(network, data) == "NotManifest"


def test_a_manifest_that_is_cut_short_is_none(network):
    raw = encode(MANIFEST)
    after = raw.index(b"author_payee") + len("author_payee") + 1 + 20
    assert read(network, raw[:after]) == MANIFEST.author_payee, "what comes behind is not looked at"
    for length in range(0, after, 7):
        assert refuse(network, raw[:length]) == "NotManifest"


def test_a_manifest_of_many_contributors_fits_a_transaction(network):
    payees = (Address(bytes(18) + n.to_bytes(2, "big")) for n in range(1_000))
    manifest = replace(MANIFEST, priors=tuple(PriorWeight(payee, 1_000) for payee in payees))
    assert checksummed(read(network, encode(manifest))) == checksummed(MANIFEST.author_payee)
    assert network.gas_used < 10_000_000
