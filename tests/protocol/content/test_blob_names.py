"""Names of content: the same however it is cut, and every chunk is held to them."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonlore.protocol.content.blob_names import (
    BlobManifest,
    check_chunk,
    check_manifest,
    check_small,
    chunk_length,
    describe_blob,
    has_manifest,
    name_manifest,
    open_manifest,
)
from commonlore.protocol.encoding.codec import encode
from commonlore.protocol.errors import RemoteProtocolError
from commonlore.protocol.ids import CHUNK_SIZE, DAG_CBOR, cid_of

LARGE = bytes(range(256)) * (CHUNK_SIZE // 256) * 2 + b"the rest"
CID, MANIFEST = describe_blob([LARGE])


@pytest.mark.parametrize("size", [0, 1, CHUNK_SIZE - 1, CHUNK_SIZE])
def test_content_of_one_chunk_is_named_by_its_bytes(size):
    data = bytes(size)
    assert describe_blob([data]) == (cid_of(data), None)
    assert not has_manifest(cid_of(data))
    check_small(cid_of(data), data)
    with pytest.raises(RemoteProtocolError, match="not the content of"):
        check_small(cid_of(data), data + b"x")


def test_larger_content_is_named_by_its_manifest():
    assert MANIFEST.size == len(LARGE)
    assert len(MANIFEST.chunks) == 3
    assert CID == name_manifest(MANIFEST) == cid_of(encode(MANIFEST), DAG_CBOR)
    assert has_manifest(CID)
    assert open_manifest(CID, encode(MANIFEST)) == MANIFEST
    with pytest.raises(RemoteProtocolError):
        check_small(CID, LARGE)


def test_two_whole_chunks_are_two():
    cid, manifest = describe_blob([bytes(2 * CHUNK_SIZE)])
    assert (manifest.size, len(manifest.chunks), chunk_length(manifest, 1)) == (2 * CHUNK_SIZE, 2, CHUNK_SIZE)
    assert manifest.chunks[0] == manifest.chunks[1]
    assert cid != describe_blob([bytes(2 * CHUNK_SIZE + 1)])[0]


@given(cuts=st.lists(st.integers(0, len(LARGE)), max_size=5))
@settings(max_examples=20)
def test_the_name_does_not_depend_on_the_pieces(cuts):
    places = [0, *sorted(cuts), len(LARGE)]
    assert describe_blob(LARGE[a:b] for a, b in pairwise(places)) == (CID, MANIFEST)


def test_chunks_are_checked():
    for index in range(3):
        chunk = LARGE[index * CHUNK_SIZE : (index + 1) * CHUNK_SIZE]
        check_chunk(MANIFEST, index, chunk)
        for wrong in (chunk[:-1], chunk + b"x", chunk[:-1] + bytes([chunk[-1] ^ 1]), b""):
            with pytest.raises(RemoteProtocolError, match=f"chunk {index} is not"):
                check_chunk(MANIFEST, index, wrong)
    for index in (-1, 3):
        with pytest.raises(RemoteProtocolError, match="no chunk"):
            check_chunk(MANIFEST, index, b"")


@pytest.mark.parametrize(
    "change",
    [
        {"chunk_size": 1},
        {"chunk_size": 0},
        {"size": 2 * CHUNK_SIZE},
        {"size": 3 * CHUNK_SIZE + 1},
        {"size": 0},
        {"size": 2**64 - 1},
        {"chunks": (bytes(32),), "size": 5},
    ],
)
def test_manifests_that_contradict_themselves_are_refused(change):
    wrong = replace(MANIFEST, **change)
    with pytest.raises(RemoteProtocolError, match="a blob"):
        check_manifest(wrong)
    with pytest.raises(RemoteProtocolError, match="a blob"):
        open_manifest(name_manifest(wrong), encode(wrong))


def test_only_the_named_manifest_is_opened():
    other = replace(MANIFEST, size=MANIFEST.size - 1)
    for cid, data in (
        (CID, encode(other)),
        (CID, b""),
        (cid_of(encode(MANIFEST)), encode(MANIFEST)),
        (cid_of(b"\x80", DAG_CBOR), b"\x80"),
    ):
        with pytest.raises(RemoteProtocolError):
            open_manifest(cid, data)


def test_the_largest_manifest_fits_its_limit():
    many = BlobManifest(20_000 * CHUNK_SIZE, CHUNK_SIZE, (b"\xff" * 32,) * 20_000)
    assert len(encode(many)) <= 64 + 34 * 20_000
    assert open_manifest(name_manifest(many), encode(many)) == many
