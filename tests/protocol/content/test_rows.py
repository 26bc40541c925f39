"""Shards: signed by both keys, and exactly the rows they commit."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonlore.protocol.content.manifests import MAX_ROW_BYTES, MAX_ROWS_PER_SHARD, Row, ShardHeader
from commonlore.protocol.content.rows import (
    check_row,
    check_shard,
    contributors_root,
    decode_rows,
    encode_rows,
    keeps_order,
    row_hash,
    rows_cid,
    rows_root,
    sign_shard,
)
from commonlore.protocol.encoding.codec import encode
from commonlore.protocol.encoding.merkle import ZERO_HASH, MerkleTree, verify
from commonlore.protocol.errors import InvalidShard, LocalProtocolError
from commonlore.protocol.ids import CHUNK_SIZE, Address, Cid, keccak256
from commonlore.protocol.signing.keys import AccountKey, PeerKey

ROWS = tuple(Row(f"question {n}", f"answer {n}", bytes([n]) * 32) for n in range(5))
rows_of_any_text = st.lists(
    st.builds(Row, st.text(min_size=1), st.text(min_size=1), st.binary(min_size=32, max_size=32)), max_size=6
)


@pytest.fixture
def sign(domain, peer_key, owner):
    def sign(rows, /, **change):
        header = ShardHeader(
            datanet="icd10/1",
            contributor="ada",
            ed25519_key=peer_key.public,
            payee=owner.address,
            licence="CC0-1.0",
            origin="made up",
            notice="kept",
            row_count=len(rows),
            rows_root=rows_root(rows),
            rows=rows_cid(rows),
        )
        return sign_shard(domain, replace(header, **change), peer_key, owner)

    return sign


def test_a_shard_is_its_rows(domain, sign):
    for rows in (ROWS[:1], ROWS):
        check_shard(domain, sign(rows), rows)
        check_shard(domain, sign(rows), None)
        assert decode_rows(encode_rows(rows)) == rows


def test_a_shard_of_several_chunks(domain, sign):
    rows = tuple(Row("q" * 12_000, "a", bytes([n]) * 32) for n in range(30))
    assert len(encode_rows(rows)) > CHUNK_SIZE
    check_shard(domain, sign(rows), rows)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows_root": bytes(32)}, "not those that its root commits"),
        ({"row_count": 4}, "5 rows; its header says 4"),
        ({"rows": rows_cid(ROWS[:1])}, "not those that bafk"),
        ({"row_count": 0}, "0 rows; 1 to 100000"),
        ({"row_count": MAX_ROWS_PER_SHARD + 1}, "100001 rows; 1 to 100000"),
    ],
)
def test_headers_that_say_otherwise_are_refused(domain, sign, change, words):
    with pytest.raises(InvalidShard, match=f"shard of 'ada': .*{words}"):
        check_shard(domain, sign(ROWS, **change), ROWS)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (Row("", "a", bytes(32)), "without a question"),
        (Row("q", "", bytes(32)), "without an answer|without a question or without an answer"),
        (Row("q" * MAX_ROW_BYTES, "a", bytes(32)), "at most 16384 are allowed"),
        (Row("q" * 70_000, "a", bytes(32)), "65536 are allowed"),
        (Row("\ud800", "a", bytes(32)), "not valid Unicode"),
        (Row("q", "a", bytes(31)), "31 bytes"),
    ],
)
def test_bad_rows_are_refused_by_number(domain, sign, row, words):
    with pytest.raises(InvalidShard, match=words):
        check_row(row)
    with pytest.raises(InvalidShard, match=f"shard of 'ada', row 3: .*({words})"):
        check_shard(domain, sign(ROWS), (*ROWS[:2], row, *ROWS[3:]))


def test_the_same_row_twice_is_refused(domain, sign):
    rows = (*ROWS, ROWS[0])
    with pytest.raises(InvalidShard, match="the same row twice"):
        check_shard(domain, sign(rows), rows)


def test_rows_out_of_order_are_others(domain, sign):
    with pytest.raises(InvalidShard, match="its root commits"):
        check_shard(domain, sign(ROWS), ROWS[::-1])


def test_both_signatures_count(domain, other_domain, sign):
    shard = sign(ROWS)
    with pytest.raises(InvalidShard, match=r"ShardHeader is not signed by|belongs to no key"):
        check_shard(other_domain, shard, None)
    for change in (
        {"ed25519_signature": bytes(64)},
        {"payee_signature": bytes(65)},
        {"header": replace(shard.header, contributor="bob")},
        {"header": replace(shard.header, payee=Address(bytes(20)))},
        {"header": replace(shard.header, ed25519_key=PeerKey.generate(b"\x55" * 32).public)},
    ):
        with pytest.raises(InvalidShard, match="shard of"):
            check_shard(domain, replace(shard, **change), None)


def test_only_the_named_keys_sign(domain, sign, peer_key, owner):
    header = sign(ROWS).header
    for peer, payee in (
        (PeerKey.generate(bytes(32)), owner),
        (peer_key, AccountKey.from_secret(b"\x09" * 32)),
    ):
        with pytest.raises(LocalProtocolError, match="the very keys"):
            sign_shard(domain, header, peer, payee)


@pytest.mark.parametrize(
    "data", [b"", b"\xa0", b"\x00", encode_rows(ROWS)[:-1], encode(ROWS[0]), b"\x81\x61\xff"]
)
def test_bytes_that_are_no_rows_are_refused(data):
    with pytest.raises(InvalidShard, match="the rows cannot be read"):
        decode_rows(data)


@given(rows=rows_of_any_text)
@settings(max_examples=40)
def test_rows_round_trip_and_have_proofs(rows):
    assert decode_rows(encode_rows(rows)) == tuple(rows)
    leaves = [row_hash(row) for row in rows]
    tree = MerkleTree(leaves)
    assert rows_root(rows) == tree.root
    assert leaves == [keccak256(b"\x00" + encode(row)) for row in rows]
    for index, leaf in enumerate(leaves):
        assert verify(tree.root, leaf, index, len(leaves), tree.proof(index))


def test_the_salt_changes_the_leaf():
    assert row_hash(ROWS[0]) != row_hash(replace(ROWS[0], salt=b"\xff" * 32))


@given(payees=st.lists(st.binary(min_size=20, max_size=20).map(Address), max_size=6), data=st.data())
@settings(max_examples=40)
def test_contributors_are_a_set(payees, data):
    again = data.draw(st.permutations([*payees, *payees[:2]]))
    assert contributors_root(again) == contributors_root(payees)
    assert (contributors_root(payees) == ZERO_HASH) == (not payees)


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        *(("", "ab", True), ("ab", "ab", True), ("ab", "abc", True), ("abc", "acd", True)),
        *(("ab", "ba", False), ("ab", "cab", False), ("ab", "acb", False), ("ab", "cb", False)),
    ],
)
def test_shards_that_stay_stand_first_in_their_order(before, after, kept):
    assert keeps_order(tuple(map(Cid, before)), tuple(map(Cid, after))) is kept
