"""Names: one text for one content, one peer id for one key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonlore.protocol.errors import RemoteProtocolError
from commonlore.protocol.ids import (
    DAG_CBOR,
    RAW,
    Address,
    checksummed,
    cid_from_bytes,
    cid_of,
    cid_of_digest,
    cid_to_bytes,
    digest_of,
    keccak256,
    parse_cid,
    peer_id_of,
    public_key_of,
    receipt_id_of,
    to_address,
    to_cid,
)

digests = st.binary(min_size=32, max_size=32)


@given(digest=digests, codec=st.sampled_from((RAW, DAG_CBOR)))
def test_cids_round_trip(digest, codec):
    cid = cid_of_digest(digest, codec)
    assert parse_cid(cid) == (codec, digest)
    assert (to_cid(cid), digest_of(cid), cid_from_bytes(cid_to_bytes(cid))) == (cid, digest, cid)


def test_known_names():
    # `ipfs add --cid-version=1 --raw-leaves` of the empty file
    assert cid_of(b"") == "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
    assert keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert checksummed(to_address("0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed")) == (
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
    )


@pytest.mark.parametrize(
    "change", [str.upper, lambda c: c[:-1], lambda c: c + "a", lambda c: "z" + c[1:], lambda c: c[:-1] + "v"]
)
def test_other_spellings_are_refused(change):
    with pytest.raises(RemoteProtocolError, match="content id"):
        to_cid(change(cid_of(b"x")))


@given(text=st.text(max_size=80))
def test_any_text_is_a_name_or_a_protocol_error(text):
    for read in (to_cid, public_key_of, to_address):
        with pytest.raises(RemoteProtocolError):
            read(text)


@pytest.mark.parametrize(
    "binary", [b"", bytes(36), b"\x01\x70\x12\x20" + bytes(32), b"\x01\x55\x12\x20" + bytes(31)]
)
def test_binary_names_of_another_kind_are_refused(binary):
    with pytest.raises(RemoteProtocolError, match="binary content id"):
        cid_from_bytes(binary)


@given(public=digests)
def test_peer_ids_hold_their_key(public):
    peer_id = peer_id_of(public)
    assert peer_id.startswith("12D3KooW")
    assert public_key_of(peer_id) == public


def test_a_receipt_has_one_id():
    payer, lane = Address(b"\x01" * 20), Address(b"\x02" * 20)
    ids = {receipt_id_of(payer, lane, 1), receipt_id_of(payer, lane, 2), receipt_id_of(lane, payer, 1)}
    assert len(ids) == 3
    assert receipt_id_of(payer, lane, 1) == keccak256(payer + lane + bytes(7) + b"\x01")
