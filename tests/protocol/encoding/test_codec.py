"""Every record round trips, one value has one encoding, hostile bytes raise nothing but ProtocolError."""

from contextlib import suppress
from dataclasses import FrozenInstanceError, dataclass, replace
from enum import IntEnum
from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonlore.protocol.content.blob_names import BlobManifest
from commonlore.protocol.encoding.codec import (
    MAX_DEPTH,
    MAX_FRAME,
    FrameReader,
    decode,
    decode_all,
    decode_message,
    decode_value,
    encode,
    encode_all,
    encode_message,
    encode_value,
    frame,
    record_cid,
    record_hash,
    tag_of,
)
from commonlore.protocol.encoding.fields import U8, U64, U128, Label, Size
from commonlore.protocol.encoding.shapes import shapes_of
from commonlore.protocol.errors import LocalProtocolError, RemoteProtocolError
from commonlore.protocol.gossip.adverts import PeerAd, WorkerAd
from commonlore.protocol.ids import PeerId, cid_of
from commonlore.protocol.inference.messages import Cancel, Refusal, RefusalCode, TokenChunk
from commonlore.protocol.receipts.records import ReceiptDetails, SignedVoucher
from commonlore.protocol.requests.records import Disclosure, SignedRequest

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 64), (1 << 64) - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
PEER_AD = PeerAd("client", ("/ip4/127.0.0.1/tcp/1",), 3, 4)


# ---- round trips


@given(data=st.data())
@settings(max_examples=8)
def test_every_record_round_trips(record_class, records, data):
    record = data.draw(records(record_class))
    encoded = encode(record)
    assert decode(record_class, encoded) == record
    assert encode(decode(record_class, encoded)) == encoded


@given(value=PLAIN)
def test_plain_values_round_trip(value):
    assert decode_value(encode_value(value)) == value


@given(data=st.data())
def test_map_order_in_memory_does_not_matter(data):
    value = data.draw(st.dictionaries(st.text(), st.integers(0, 9), min_size=2))
    shuffled = dict(data.draw(st.permutations(list(value.items()))))
    assert encode_value(shuffled) == encode_value(value)


def test_lists_of_records_round_trip():
    ads = (PEER_AD, replace(PEER_AD, seq=9))
    assert decode_all(PeerAd, encode_all(ads)) == ads
    with pytest.raises(RemoteProtocolError, match="not a list"):
        decode_all(PeerAd, encode(PEER_AD))


def test_messages_carry_their_name():
    for message, tag in ((Cancel(), "cancel"), (TokenChunk(0, (1, 2), "ab"), "token_chunk")):
        assert tag_of(type(message)) == tag
        assert decode_message(encode_message(message), (Cancel, TokenChunk)) == message
    with pytest.raises(
        RemoteProtocolError, match="unexpected message 'cancel'; expected one of: token_chunk"
    ):
        decode_message(encode_message(Cancel()), (TokenChunk,))
    for data in (
        encode_value({}),
        encode_value(["cancel"]),
        encode_value([1, {}]),
        encode_value(["cancel", {}, 1]),
    ):
        with pytest.raises(RemoteProtocolError):
            decode_message(data, (Cancel,))


def test_string_enums_travel_as_their_text():
    refusal = Refusal(RefusalCode.BUSY, "later", True)
    assert decode(Refusal, encode(refusal)) == refusal
    assert type(decode(Refusal, encode(refusal)).code) is str


def test_names_and_hashes_are_of_the_encoding():
    assert record_cid(PEER_AD) == cid_of(encode(PEER_AD))
    assert len(record_hash(PEER_AD)) == 32
    with pytest.raises(LocalProtocolError, match="at most 262144"):
        record_cid(BlobManifest(1, 1, (bytes(32),) * 10_000))


# ---- shapes that no record of the wire has yet


class Colour(IntEnum):
    RED = 1
    BLUE = 5


@dataclass(frozen=True, slots=True)
class Odd:
    colour: Colour
    peer: PeerId
    big: U128
    maybe: U64 | None


def test_enums_peer_ids_and_wide_integers(peer_key):
    odd = Odd(Colour.BLUE, peer_key.peer_id, (1 << 128) - 1, None)
    decoded = decode(Odd, encode(odd))
    assert decoded == odd
    assert type(decoded.colour) is Colour
    raw = decode_value(encode(odd))
    assert raw == {"colour": 5, "peer": peer_key.peer_id, "big": b"\xff" * 16}
    for wrong in (
        {"colour": 2},
        {"peer": "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"},
        {"peer": "12D3KooW"},
        {"peer": ""},
        {"peer": "1" * 100_000},
        {"big": 5},
        {"big": b"\x00" * 17},
        {"maybe": None},
        {"maybe": -1},
    ):
        with pytest.raises(RemoteProtocolError, match=f"Odd.{next(iter(wrong))}"):
            decode(Odd, encode_value({**raw, **wrong}))


def test_annotations_that_cannot_travel_are_this_programs_mistake():
    @dataclass(frozen=True)
    class Float:
        x: float

    @dataclass(frozen=True)
    class Bare:
        x: int

    @dataclass(frozen=True)
    class Either:
        x: U8 | Label

    @dataclass(frozen=True)
    class Marked:
        x: Annotated[int, Size(1, 2)]

    for cls in (Float, Bare, Either, Marked):
        with pytest.raises(TypeError, match=r"x: .* is not one type or None|cannot travel"):
            shapes_of(cls)


# ---- what this program may not say


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"role": "x" * 257}, "PeerAd.role: a text of 257 bytes; 0 to 256 are allowed"),
        ({"role": "é" * 129}, "PeerAd.role: a text of 258 bytes"),
        ({"role": "\ud800"}, "PeerAd.role: text that is not valid Unicode"),
        ({"role": b"x"}, "PeerAd.role: bytes where text belongs"),
        ({"addresses": ("a",) * 9}, "PeerAd.addresses: 9 items; 0 to 8 are allowed"),
        ({"addresses": ["a"]}, "PeerAd.addresses: list where a tuple belongs"),
        ({"addresses": ("a", 5)}, r"PeerAd.addresses\[1\]: int where text belongs"),
        ({"seq": -1}, "PeerAd.seq: -1 is not a uint64"),
        ({"seq": 1 << 64}, "PeerAd.seq: 18446744073709551616 is not a uint64"),
        ({"seq": True}, "PeerAd.seq: True is not a uint64"),
        ({"seq": 1.0}, "PeerAd.seq: float is not a uint64"),
        ({"seq": None}, "PeerAd.seq: null is not a uint64"),
    ],
)
def test_wrong_fields_are_local_errors_that_name_the_field(change, words):
    with pytest.raises(LocalProtocolError, match=words):
        encode(replace(PEER_AD, **change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"base": "bafy"}, "WorkerAd.base: not a content id"),
        ({"base": 5}, "WorkerAd.base: int where a content id belongs"),
        ({"rates": PEER_AD}, "WorkerAd.rates: PeerAd where Rates belongs"),
        ({"rates": None}, "WorkerAd.rates: null where Rates belongs"),
    ],
)
def test_wrong_nested_fields_are_local_errors(worker_ad, change, words):
    with pytest.raises(LocalProtocolError, match=words):
        encode(replace(worker_ad, **change))


def test_plain_values_that_cannot_travel_are_local_errors():
    cyclic: list = []
    cyclic.append(cyclic)
    for value in (1.5, {1: 2}, {b"k": 2}, 1 << 64, -(1 << 64) - 1, object(), {1, 2}, "\ud800", cyclic):
        with pytest.raises(LocalProtocolError):
            encode_value(value)


# ---- what nobody may say: the canonical form

NOT_CANONICAL = {
    "indefinite list": "9f01ff",
    "indefinite map": "bf616101ff",
    "indefinite bytes": "5f4101ff",
    "indefinite text": "7f6161ff",
    "break alone": "ff",
    "0 in two bytes": "1800",
    "23 in two bytes": "1817",
    "255 in three bytes": "1900ff",
    "65535 in five bytes": "1a0000ffff",
    "2^32-1 in nine bytes": "1b00000000ffffffff",
    "-1 in two bytes": "3800",
    "long length of bytes": "580101",
    "long length of text": "780161",
    "long length of a list": "9801f6",
    "long length of a map": "b801616101",
    "unsorted keys": "a2616200616101",
    "unsorted keys by length": "a262616100616201",
    "the same key twice": "a2616100616101",
    "integer key": "a10000",
    "bytes key": "a1416100",
    "list key": "a18000",
    "null key": "a1f600",
    "half float": "f93c00",
    "single float": "fa3f800000",
    "double float": "fb3ff0000000000000",
    "not a number": "f97e00",
    "undefined": "f7",
    "simple value": "f0",
    "simple value of two bytes": "f8ff",
    "date tag": "c074323031332d30332d32315432303a30343a30305a",
    "epoch tag": "c11a514b67b0",
    "bignum": "c249010000000000000000",
    "negative bignum": "c349010000000000000000",
    "decimal fraction": "c48221196ab3",
    "huge decimal fraction": "c4821b7fffffffffffffff01",
    "big float": "c5822003",
    "pattern": "d8236161",
    "shared value": "d81c80",
    "cyclic value": "d81c81d81d00",
    "string reference": "d9010082616161d81900",
    "set": "d9010280",
    "address": "d90104447f000001",
    "cid tag": "d82a4100",
    "unknown tag": "d90fff01",
    "self-described": "d9d9f700",
    "trailing byte": "0000",
    "two values": "6161a0",
    "nothing": "",
    "cut integer": "19",
    "cut bytes": "43aa",
    "cut list": "8201",
    "cut map": "a16161",
    "reserved length 28": "1c",
    "reserved length 31 of an integer": "1f",
    "invalid UTF-8": "61ff",
    "surrogate in UTF-8": "63eda080",
    "list of 2^40": "9b0000010000000000",
    "list of 2^64-1": "9bffffffffffffffff",
    "map of 2^32-1": "baffffffff",
    "bytes of 2^40": "5b000001000000000000",
    "text of 2^63": "7b800000000000000061",
    "deep list": "81" * (MAX_DEPTH + 1) + "01",
    "very deep list": "81" * 500_000 + "01",
    "very deep map": "a16161" * 300_000 + "01",
    "very deep tags": "c1" * 900_000 + "01",
    "tagged deep lists": "d81c81" * 300_000 + "01",
}


@pytest.mark.parametrize("encoded", NOT_CANONICAL.values(), ids=NOT_CANONICAL)
def test_only_the_canonical_form_is_read(encoded):
    with pytest.raises(RemoteProtocolError):
        decode_value(bytes.fromhex(encoded))
    with pytest.raises(RemoteProtocolError):
        decode(PeerAd, bytes.fromhex(encoded))


def test_depth_and_size_have_limits():
    deep: list = []
    for _ in range(MAX_DEPTH - 1):
        deep = [deep]
    assert decode_value(encode_value(deep)) == deep
    with pytest.raises(LocalProtocolError, match="nested deeper than 16"):
        encode_value([deep])
    data = encode_value(bytes(100))
    assert decode_value(data, max_bytes=102) == bytes(100)
    with pytest.raises(RemoteProtocolError, match="102 bytes of CBOR; at most 101"):
        decode_value(data, max_bytes=101)
    with pytest.raises(RemoteProtocolError, match="at most 1048576"):
        decode(PeerAd, bytes(MAX_FRAME + 1))


def test_missing_unknown_and_null_fields_are_refused():
    raw = decode_value(encode(PEER_AD))
    for wrong, words in (
        ({k: v for k, v in raw.items() if k != "seq"}, "PeerAd.seq: missing"),
        ({**raw, "more": 1}, "PeerAd: unknown field 'more'"),
        ({**raw, "seq": None}, "PeerAd.seq: null is not a uint64"),
        ({**raw, "seq": "1"}, "PeerAd.seq: str is not a uint64"),
        ({**raw, "addresses": {}}, "PeerAd.addresses: dict where a list belongs"),
        ([], "list where PeerAd belongs"),
    ):
        with pytest.raises(RemoteProtocolError, match=words):
            decode(PeerAd, encode_value(wrong))


def test_none_is_the_absence_of_the_field_and_defaults_are_present():
    chunk = TokenChunk(0, (), "")
    assert decode_value(encode(chunk)) == {"start": 0, "tokens": [], "text": "", "logprobs": []}
    with pytest.raises(RemoteProtocolError, match="logprobs: missing"):
        decode(TokenChunk, encode_value({"start": 0, "tokens": [], "text": ""}))


# ---- hostile bytes


@given(data=st.data())
@settings(max_examples=8)
def test_mutated_records_raise_only_protocol_errors(record_class, records, data):
    encoded = bytearray(encode(data.draw(records(record_class))))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(encoded)))
        cut = data.draw(st.integers(0, 3))
        encoded[place : place + cut] = data.draw(st.binary(max_size=3))
    refuse_or_read_exactly(record_class, bytes(encoded))


@given(data=st.binary(max_size=200))
@settings(max_examples=200)
def test_random_bytes_raise_only_protocol_errors(data):
    for cls in (PeerAd, WorkerAd, SignedVoucher, ReceiptDetails):
        refuse_or_read_exactly(cls, data)
    with suppress(RemoteProtocolError):
        assert encode_value(decode_value(data)) == data


@given(value=PLAIN)
@settings(max_examples=8)
def test_well_formed_values_of_the_wrong_shape_are_refused(record_class, value):
    refuse_or_read_exactly(record_class, encode_value(value))


def refuse_or_read_exactly(cls, data):
    try:
        record = decode(cls, data)
    except RemoteProtocolError:
        return
    assert encode(record) == data


# ---- frames


@given(bodies=st.lists(st.binary(max_size=300), max_size=8), data=st.data())
def test_frames_survive_any_cutting(bodies, data):
    stream = b"".join(frame(body) for body in bodies)
    reader, found, start = FrameReader(), [], 0
    while start < len(stream):
        end = start + data.draw(st.integers(1, 200))
        found += reader.feed(stream[start:end])
        start = end
    assert found == bodies
    assert reader.pending == 0


def test_frames_have_a_limit():
    assert FrameReader().feed(frame(bytes(MAX_FRAME))) == [bytes(MAX_FRAME)]
    with pytest.raises(LocalProtocolError, match="at most 1048576 fit"):
        frame(bytes(MAX_FRAME + 1))
    with pytest.raises(RemoteProtocolError, match="a frame of 1048577 bytes"):
        FrameReader().feed((MAX_FRAME + 1).to_bytes(4, "big"))
    with pytest.raises(RemoteProtocolError, match="at most 10"):
        FrameReader(10).feed(frame(b"ok") + frame(bytes(11)))


def test_a_cut_frame_is_pending():
    reader = FrameReader()
    assert reader.feed(frame(b"whole") + frame(b"cut")[:-1]) == [b"whole"]
    assert reader.pending == 6
    assert reader.feed(b"t") == [b"cut"]


def test_records_are_frozen():
    with pytest.raises(FrozenInstanceError):
        PEER_AD.seq = 5


def test_requests_name_their_disclosure_by_number(signed_request):
    decoded = decode(SignedRequest, encode(signed_request))
    assert decoded.request.disclosure == Disclosure.AUDIT
