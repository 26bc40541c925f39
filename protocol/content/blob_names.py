"""How content gets its name, and how a chunk is checked against it.

Content of at most one chunk is named by the `raw` CID of its bytes. Larger content is cut into chunks of
CHUNK_SIZE (the last may be shorter) and named by the `dag-cbor` CID of its `BlobManifest`. So the codec in a
name says which it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from ..encoding.codec import decode, encode
from ..encoding.fields import U32, U64, Hash32, Size
from ..errors import LocalProtocolError, RemoteProtocolError
from ..ids import CHUNK_SIZE, DAG_CBOR, RAW, Cid, cid_of, cid_of_digest, digest_of, parse_cid

MAX_BLOB_CHUNKS = 262_144  # 64 GiB
MAX_MANIFEST_BYTES = 64 + 34 * MAX_BLOB_CHUNKS
"""The largest encoding of a BlobManifest: 34 bytes a chunk."""


@dataclass(frozen=True, slots=True)
class BlobManifest:
    """Content larger than one chunk: every chunk is `chunk_size` bytes but the last. Digests are sha2-256."""

    size: U64
    chunk_size: U32
    chunks: Annotated[tuple[Hash32, ...], Size(1, MAX_BLOB_CHUNKS)]


def describe_blob(chunks: Iterable[bytes]) -> tuple[Cid, BlobManifest | None]:
    """The name of the content that these pieces (of any sizes) make together, and its manifest when it has
    several chunks.

    Raises LocalProtocolError above MAX_BLOB_CHUNKS chunks.
    """
    digests: list[bytes] = []
    size, hasher, room = 0, hashlib.sha256(), CHUNK_SIZE
    for piece in chunks:
        view = memoryview(piece)
        while len(view) > room:
            hasher.update(view[:room])
            digests.append(hasher.digest())
            view, hasher, size, room = view[room:], hashlib.sha256(), size + room, CHUNK_SIZE
        hasher.update(view)
        size, room = size + len(view), room - len(view)
    digests.append(hasher.digest())
    if len(digests) == 1:
        return cid_of_digest(digests[0], RAW), None
    if len(digests) > MAX_BLOB_CHUNKS:
        raise LocalProtocolError(
            f"a blob of {size} bytes; at most {MAX_BLOB_CHUNKS} chunks of {CHUNK_SIZE} have a name"
        )
    manifest = BlobManifest(size, CHUNK_SIZE, tuple(digests))
    return name_manifest(manifest), manifest


def name_manifest(manifest: BlobManifest) -> Cid:
    """The name of the content that a manifest describes."""
    return cid_of(encode(manifest), DAG_CBOR)


def has_manifest(cid: Cid) -> bool:
    """Whether a name stands for content of several chunks, whose manifest must be had first."""
    return parse_cid(cid)[0] == DAG_CBOR


def open_manifest(cid: Cid, data: bytes) -> BlobManifest:
    """The manifest that the name `cid` stands for.

    Raises RemoteProtocolError unless `data` is its one encoding.
    """
    if not has_manifest(cid) or hashlib.sha256(data).digest() != digest_of(cid):
        raise RemoteProtocolError(f"not the manifest of {cid}")
    manifest = decode(BlobManifest, data, MAX_MANIFEST_BYTES)
    check_manifest(manifest)
    return manifest


def check_manifest(manifest: BlobManifest) -> None:
    """Raises RemoteProtocolError unless chunk size, size and number of chunks agree and one chunk would not
    do.
    """
    if manifest.chunk_size != CHUNK_SIZE:
        raise RemoteProtocolError(
            f"a blob in chunks of {manifest.chunk_size} bytes; they must be {CHUNK_SIZE}"
        )
    if len(manifest.chunks) < 2 or -(-manifest.size // CHUNK_SIZE) != len(manifest.chunks):
        raise RemoteProtocolError(
            f"a blob of {manifest.size} bytes in {len(manifest.chunks)} chunks of {CHUNK_SIZE}"
        )


def chunk_length(manifest: BlobManifest, index: int) -> int:
    """Bytes of chunk `index` of a checked manifest.

    Raises RemoteProtocolError where there is no such chunk.
    """
    if not 0 <= index < len(manifest.chunks):
        raise RemoteProtocolError(f"no chunk {index} in a blob of {len(manifest.chunks)}")
    return min(manifest.chunk_size, manifest.size - index * manifest.chunk_size)


def check_chunk(manifest: BlobManifest, index: int, data: bytes) -> None:
    """Raises RemoteProtocolError unless `data` is chunk `index` of a checked manifest."""
    if len(data) != chunk_length(manifest, index) or hashlib.sha256(data).digest() != manifest.chunks[index]:
        raise RemoteProtocolError(f"chunk {index} is not what the blob's manifest says")


def check_small(cid: Cid, data: bytes) -> None:
    """Raises RemoteProtocolError unless `data` is the whole content that a `raw` name stands for."""
    codec, digest = parse_cid(cid)
    if codec != RAW or len(data) > CHUNK_SIZE or hashlib.sha256(data).digest() != digest:
        raise RemoteProtocolError(f"not the content of {cid}")
