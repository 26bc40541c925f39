"""An index and what belongs to it, as blobs: fetched within bounds, and opened under its author's seal.

Rules of this file: everything is found by content id; what claims to be larger than it can be is not fetched.
Rows and sums may be larger than what a node has memory for: who only looks at them maps their files.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import Protocol, TypeVar

import trio

from ...protocol.attribution.differences import IndexDifference
from ...protocol.attribution.scoring import MAX_WIDTH, Int64s
from ...protocol.content.manifests import AdapterManifest, IndexManifest
from ...protocol.encoding.codec import record_cid
from ...protocol.errors import NotFound, RemoteProtocolError, Unreachable
from ...protocol.ids import CHUNK_SIZE, RAW, Address, Cid, cid_of_digest
from ...protocol.receipts.records import AttributionStatement
from ...protocol.signing.envelope import Sealed, open_sealed
from ...worker.attribution.index import map_file
from ...worker.attribution.remainder import Remainder

T = TypeVar("T")
MAX_INDEX_BYTES = 8 * 1024**2
"""Of a sealed index manifest: 100,000 hashes and 4,096 contributors take 3.6 MB."""
MAX_VECTOR_BYTES = 512 * 1024**2
"""Of an index's rows, 100,000 of 4,097 bytes and some; or of its contributors' sums. What claims more is not
fetched."""
MAX_CHECKPOINT_BYTES = 1024**3
MOST_FACTORS = 2
"""Bytes of curvature factors a byte of the adapter: beyond that they are not fetched, and not used."""


class ContentSource(Protocol):
    """Blobs: a node's, or a folder's."""

    def has(self, cid: Cid) -> bool:
        """Whether it is on this machine."""
        ...

    async def get(self, cid: Cid, max_bytes: int) -> bytes:
        """The verified content. Raises NotFound, Unreachable."""
        ...

    async def path(self, cid: Cid, max_size: int) -> Path:
        """A file with it. Raises NotFound, Unreachable."""
        ...


@dataclass(frozen=True, slots=True)
class DifferenceEvidence:
    """What left an index, whose rows just those are, and what is left of it. Root and sums are not checked
    yet."""

    sealed: Sealed[IndexDifference]
    remainder: Remainder
    taken: Mapping[Address, Int64s]


@dataclass(frozen=True, slots=True)
class IndexEvidence:
    """The index that a statement names: its author's seal, its rows, its contributors' sums, and the
    statement's query vector. Where rows were withdrawn, `rows` is None, and `difference` what is left, where
    that can be had."""

    sealed: Sealed[IndexManifest]
    rows: bytes | mmap | None
    sums: bytes | mmap
    query: bytes
    difference: DifferenceEvidence | None = None

    @property
    def manifest(self) -> IndexManifest:
        """What was sealed."""
        return self.sealed.record


async def curvature_of(content: ContentSource, manifest: AdapterManifest) -> Path | None:
    """The file of an adapter's factors, if it has published any. Raises NotFound, Unreachable."""
    if manifest.factors is None:
        return None
    most = max(MOST_FACTORS * manifest.weights_size, CHUNK_SIZE)
    return await content.path(manifest.factors, min(most, MAX_CHECKPOINT_BYTES))


async def early_of(content: ContentSource, manifest: AdapterManifest) -> Path:
    """The file of an adapter's early checkpoint. Raises NotFound, Unreachable."""
    if manifest.early_checkpoint is None:
        raise NotFound(f"adapter {manifest.name!r} has no early checkpoint: its answers cannot be scored")
    return await content.path(manifest.early_checkpoint, MAX_CHECKPOINT_BYTES)


async def index_of(content: ContentSource, cid: Cid, manifest: AdapterManifest) -> Sealed[IndexManifest]:
    """The sealed index of an adapter. Raises NotFound, Unreachable, RemoteProtocolError."""
    raw = await content.get(cid, MAX_INDEX_BYTES)
    # beside the loop: a large one takes a second, and what a stranger wrote may take more
    sealed = await trio.to_thread.run_sync(open_sealed, raw, (IndexManifest,), MAX_INDEX_BYTES)
    adapter = record_cid(manifest)
    if sealed.public_key != manifest.author:
        raise RemoteProtocolError(f"the index of {adapter} is not its author's")
    if sealed.record.adapter != adapter:
        raise RemoteProtocolError(f"the index announced for {adapter} is of {sealed.record.adapter}")
    return sealed


async def index_evidence(
    content: ContentSource, statement: Sealed[AttributionStatement], manifest: AdapterManifest, whole: bool
) -> IndexEvidence:
    """The index that a statement names, with its query vector; with its rows where it is `whole`: rows of
    which some were withdrawn are asked of nobody. Raises NotFound, Unreachable, RemoteProtocolError,
    InvalidSignature."""
    index = statement.record.index
    assert index is not None
    sealed = await _named("index", index, index_of(content, index, manifest))
    rows = None
    if whole or content.has(sealed.record.rows):
        rows = await _named("index's rows", sealed.record.rows, rows_path(content, sealed.record))
    sums = await _named("contributors' sums", sealed.record.sums, sums_path(content, sealed.record))
    query = await query_of(content, statement.record, sealed.record.width)
    return IndexEvidence(sealed, map_file(rows) if rows else None, map_file(sums), query)


async def query_of(content: ContentSource, statement: AttributionStatement, width: int) -> bytes:
    """The query vector that a statement names. Raises NotFound, Unreachable."""
    cid = cid_of_digest(statement.query, RAW)
    return await _named("query vector", cid, content.get(cid, width))


async def _named(what: str, cid: Cid, reading: Awaitable[T]) -> T:
    """Of what cannot be had it is said what it is, and that the statement shows nothing without it."""
    try:
        return await reading
    except (NotFound, Unreachable) as error:
        raise type(error)(
            f"the {what} that the statement names ({cid}) cannot be had, so nothing shows that its weights "
            f"follow: {error}"
        ) from error


async def rows_of(content: ContentSource, index: IndexManifest) -> bytes:
    """An index's rows. Raises NotFound, Unreachable, RemoteProtocolError where they are too large."""
    return await content.get(index.rows, fitting(index, index.row_count * index.row_bytes))


async def sums_of(content: ContentSource, index: IndexManifest) -> bytes:
    """An index's sums. Raises NotFound, Unreachable, RemoteProtocolError where they are too large."""
    return await content.get(index.sums, fitting(index, index.sums_bytes))


async def rows_path(content: ContentSource, index: IndexManifest) -> Path:
    """The file with an index's rows. Raises as `rows_of`."""
    return await content.path(index.rows, fitting(index, index.row_count * index.row_bytes))


async def sums_path(content: ContentSource, index: IndexManifest) -> Path:
    """The file with an index's sums. Raises as `sums_of`."""
    return await content.path(index.sums, fitting(index, index.sums_bytes))


def fitting(index: IndexManifest, size: int) -> int:
    """The most bytes that a part of an index is fetched with."""
    if size > MAX_VECTOR_BYTES or index.width > MAX_WIDTH:
        raise RemoteProtocolError(
            f"an index of {index.row_count} rows and {len(index.contributors)} contributors of width "
            f"{index.width}; at most {MAX_VECTOR_BYTES} bytes may be"
        )
    return max(size, 1)
