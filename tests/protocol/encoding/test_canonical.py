"""The canonical form against a second opinion: cbor2 with its limits set, and its re-encoding compared."""

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonlore.protocol.encoding.canonical import MAX_DEPTH, check_canonical
from commonlore.protocol.encoding.codec import encode_value
from commonlore.protocol.errors import RemoteProtocolError

LIMITS = {"max_depth": MAX_DEPTH, "allow_indefinite": False, "allow_duplicate_keys": False}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 64), (1 << 64) - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
ODD_HEADS = bytes.fromhex("18191a1b385859787998b8dbf0f4f5f6f7f8f9fafbff9fbf5f7f80a0406160")


def is_canonical(data: bytes) -> bool:
    try:
        check_canonical(data, len(data))
    except RemoteProtocolError:
        return False
    return True


def is_canonical_to_cbor2(data: bytes) -> bool:
    try:
        value = cbor2.loads(data, str_errors="replace", **LIMITS)
        return is_plain(value) and cbor2.dumps(value, canonical=True) == data
    except (cbor2.CBORError, ValueError, OverflowError, TypeError):
        return False


def is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value) and all(map(is_plain, value.values()))
    small = isinstance(value, int) and -(1 << 64) <= value < 1 << 64
    return small or value is None or isinstance(value, str | bytes)


@given(value=VALUES)
def test_what_is_encoded_is_canonical(value):
    data = encode_value(value)
    assert is_canonical(data)
    assert is_canonical_to_cbor2(data)


@given(value=VALUES, data=st.data())
@settings(max_examples=300)
def test_changed_bytes_are_judged_as_cbor2_judges(value, data):
    changed = bytearray(encode_value(value))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(changed)))
        changed[place : place + data.draw(st.integers(0, 2))] = bytes(
            data.draw(st.lists(st.sampled_from(ODD_HEADS) | st.integers(0, 255), max_size=2))
        )
    assert_judged_alike(bytes(changed))


@given(data=st.lists(st.sampled_from(ODD_HEADS) | st.integers(0, 31), max_size=12).map(bytes))
@settings(max_examples=500)
def test_random_heads_are_judged_as_cbor2_judges(data):
    assert_judged_alike(data)


def assert_judged_alike(data: bytes) -> None:
    """But for texts that are not UTF-8: those the decoder refuses."""
    if is_canonical(data) != is_canonical_to_cbor2(data):
        with pytest.raises(cbor2.CBORDecodeError, match="text string"):
            cbor2.loads(data)


def test_depth_is_counted_in_containers():
    for head, last in (("81", "80"), ("a160", "a0")):
        fits = bytes.fromhex(head * (MAX_DEPTH - 1) + last)
        check_canonical(fits, len(fits))
        deeper = bytes.fromhex(head * MAX_DEPTH + last)
        with pytest.raises(RemoteProtocolError, match="deeper than 16"):
            check_canonical(deeper, len(deeper))


def test_items_have_a_budget():
    items = encode_value([0] * 1000)
    check_canonical(items, len(items))
    many = encode_value([0] * 2000)
    with pytest.raises(RemoteProtocolError, match="too many items"):
        check_canonical(many, len(many))
    check_canonical(many, 8 * 2002)


@pytest.mark.parametrize("head", [0x80, 0xA0, 0x00, 0x40, 0xF6])
def test_a_hostile_mebibyte_is_refused_before_it_is_built(head):
    count = (1 << 20) - 5
    data = b"\x9a" + count.to_bytes(4, "big") + bytes([head]) * count
    with pytest.raises(RemoteProtocolError, match="too many items"):
        check_canonical(data, 1 << 20)
