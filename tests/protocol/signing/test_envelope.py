"""Sealed records: opened only whole, of an expected kind, and by the key they name."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonlore.protocol.encoding.codec import decode_value, encode_value
from commonlore.protocol.errors import InvalidSignature, LocalProtocolError, RemoteProtocolError
from commonlore.protocol.gossip.adverts import AdapterRecord, DatanetRecord, PeerAd, WorkerAd
from commonlore.protocol.ids import cid_of
from commonlore.protocol.signing.envelope import MAX_ADVERT_BYTES, open_sealed, seal
from commonlore.protocol.signing.keys import PeerKey

ADVERTS = (WorkerAd, PeerAd, AdapterRecord, DatanetRecord)
AD = PeerAd("client", ("/ip4/127.0.0.1/tcp/1",), 3, 4)


def test_what_was_sealed_is_opened(peer_key, worker_ad):
    for record in (worker_ad, AD):
        raw = seal(peer_key, record)
        opened = open_sealed(raw, ADVERTS)
        assert (opened.record, opened.raw) == (record, raw)
        assert (opened.public_key, opened.peer_id) == (peer_key.public, peer_key.peer_id)


def test_only_expected_kinds_are_opened(peer_key):
    with pytest.raises(RemoteProtocolError, match="unexpected message 'peer_ad'"):
        open_sealed(seal(peer_key, AD), (WorkerAd,))


def test_a_full_worker_advert_fits(peer_key, worker_ad):
    resident = tuple(cid_of(bytes([n])) for n in range(32))
    addresses = tuple(
        f"/ip6/2001:db8:85a3:8d3:1319:8a2e:370:{n}/tcp/40000/p2p/{peer_key.peer_id}" for n in range(8)
    )
    full = replace(worker_ad, resident=resident, resident_count=9999, addresses=addresses, seq=2**64 - 1)
    full = replace(full, resident_ranks=(256,) * 32, slots=4096)
    assert len(seal(peer_key, full)) < MAX_ADVERT_BYTES


def test_larger_records_are_neither_sealed_nor_opened(peer_key):
    large = PeerAd("client", ("/" + "x" * 255,) * 8, 1, 2)
    raw = seal(peer_key, large, 10_000)
    for limit in (1000, len(raw) - 1):
        with pytest.raises(LocalProtocolError, match="at most"):
            seal(peer_key, large, limit)
        with pytest.raises(RemoteProtocolError, match="at most"):
            open_sealed(raw, ADVERTS, limit)


def test_a_seal_is_for_one_record_of_one_kind_by_one_key(peer_key):
    tag, body, public, signature = decode_value(seal(peer_key, AD))
    other = PeerKey.generate(b"\x44" * 32)
    for wrong in (
        [tag, body, other.public, signature],
        [tag, body[:-1] + b"\x05", public, signature],
        [tag, body, public, signature[:-1] + bytes([signature[-1] ^ 1])],
        [tag, body, public, b""],
        [tag, body, b"", signature],
        ["worker_ad", body, public, signature],
    ):
        with pytest.raises(InvalidSignature):
            open_sealed(encode_value(wrong), ADVERTS)


@pytest.mark.parametrize(
    "value", [None, [], {}, [1, 2, 3, 4], ["peer_ad", b"", b""], ["peer_ad", {}, b"", b""]]
)
def test_other_values_are_no_envelopes(value):
    with pytest.raises(RemoteProtocolError, match="not a sealed record"):
        open_sealed(encode_value(value), ADVERTS)


@given(data=st.data())
@settings(max_examples=60)
def test_no_changed_envelope_is_opened(peer_key, data):
    raw = bytearray(seal(peer_key, AD))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RemoteProtocolError):
        open_sealed(bytes(raw), ADVERTS)
