"""The gradient index of an adapter: one committed vector of signs a row, one exact sum a contributor.

Rules of this file:
- Rows stand grouped by payee, payees ascending, each payee's rows in the order given; contributors and sums
  stand in the same order, so that row counts say whose each row is.
- A row is written as its weight and one bit a place. Rows root = the plain Merkle root of keccak(0x00 ‖ row
  hash ‖ written row). `rows` names the written rows, one after another, `sums` the contributors' sums.
- A build may be killed at any row: vectors are appended to a file under a digest of everything they depend
  on, and the next build goes on behind the last whole one. A file under another digest is begun anew.
- Whoever doubts a row recomputes it (`recheck_row`); whoever doubts a sum adds the rows up (`check_index`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...protocol.attribution.scoring import (
    Int64s,
    check_shape,
    name_of,
    read_sums,
    sum_rows,
    write_sums,
)
from ...protocol.attribution.written_rows import Blob, read_rows, row_parts, write_row
from ...protocol.content.blob_names import describe_blob
from ...protocol.content.manifests import MAX_ROWS_PER_SHARD, IndexedContributor, IndexManifest, Row
from ...protocol.content.rows import row_hash
from ...protocol.encoding.merkle import MerkleTree
from ...protocol.errors import AttributionFailed, RemoteProtocolError
from ...protocol.ids import Address, keccak256
from .sketch import Int8s, agrees
from .subject import Subject

_DIGEST_BYTES = 32
ComputeVectors = Callable[[Sequence[Row]], Sequence[Int8s]]
"""The vectors of some rows under one adapter and one projection."""
ProjectRow = Callable[[Row], tuple[npt.NDArray[np.float64], int]]
"""A row's projected gradient before its signs are taken, and how many coordinates that has."""


@dataclass(frozen=True, slots=True)
class OwnedRow:
    """A row and the account that its contributor is paid at."""

    payee: Address
    row: Row


@dataclass(frozen=True, slots=True)
class BuiltIndex:
    """A manifest and the blobs that its `rows` and `sums` name."""

    manifest: IndexManifest
    rows: bytes
    sums: bytes


class IndexBuild:
    """A resumable build in a file of the caller's. Call `advance` until `done`, then `finish`."""

    def __init__(self, subject: Subject, rows: Sequence[OwnedRow], path: Path) -> None:
        """Raises AttributionFailed without rows, and with more than an index can hold."""
        if not 0 < len(rows) <= MAX_ROWS_PER_SHARD:
            raise AttributionFailed(
                f"{len(rows)} rows to index; an index holds 1 to {MAX_ROWS_PER_SHARD}: index fewer of them"
            )
        self.subject = subject
        self.rows = tuple(
            sorted(rows, key=lambda owned: owned.payee)
        )  # stable: the order within a payee stays
        self.hashes = tuple(row_hash(owned.row) for owned in self.rows)
        self._path = path
        self.done_rows = self._resume()

    @property
    def done(self) -> bool:
        """Whether every row has its vector."""
        return self.done_rows == len(self.rows)

    def advance(self, compute: ComputeVectors, count: int) -> None:
        """Compute the next `count` rows and keep them."""
        batch = self.rows[self.done_rows : self.done_rows + count]
        vectors = compute([owned.row for owned in batch])
        with self._path.open("ab") as file:
            file.write(b"".join(write_row(vector) for vector in vectors))
        self.done_rows += len(batch)

    def finish(self) -> BuiltIndex:
        """The manifest, ready to be sealed, and its blobs."""
        blob = self._path.read_bytes()[_DIGEST_BYTES:]
        contributors = tuple(
            IndexedContributor(payee, len(list(own)))
            for payee, own in groupby(owned.payee for owned in self.rows)
        )
        sums = write_sums(_sums(contributors, blob, self.subject.width))
        manifest = IndexManifest(
            adapter=self.subject.adapter,
            method=self.subject.method,
            width=self.subject.width,
            seed=self.subject.seed,
            row_count=len(self.rows),
            rows=describe_blob([blob])[0],
            rows_root=_rows_root(self.hashes, blob, 1 + self.subject.width // 8),
            row_hashes=self.hashes,
            contributors=contributors,
            sums=describe_blob([sums])[0],
            beacon=self.subject.beacon,
        )
        return BuiltIndex(manifest, blob, sums)

    def _resume(self) -> int:
        digest = self._digest()
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            content = b""
        size = 1 + self.subject.width // 8
        whole = min((len(content) - _DIGEST_BYTES) // size, len(self.rows))
        if content[:_DIGEST_BYTES] != digest or whole < 0:
            content, whole = digest, 0
        self._path.write_bytes(content[: _DIGEST_BYTES + whole * size])
        return whole

    def _digest(self) -> bytes:
        subject = self.subject
        width = subject.width.to_bytes(4, "big")
        parts = [subject.method.encode(), subject.adapter.encode(), subject.seed, width]
        owners = [owned.payee + digest for owned, digest in zip(self.rows, self.hashes, strict=True)]
        return hashlib.sha256(b"\x00".join(parts) + b"".join(owners)).digest()


def build_index(
    subject: Subject,
    rows: Sequence[OwnedRow],
    path: Path,
    compute: ComputeVectors,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> BuiltIndex:
    """Index rows one at a time, keeping what is done in the file `path`.

    `progress` is told rows done and all rows.
    """
    build = IndexBuild(subject, rows, path)
    while not build.done:
        build.advance(compute, 1)
        progress(build.done_rows, len(rows))
    return build.finish()


def check_rows(manifest: IndexManifest, blob: Blob) -> None:
    """Raises RemoteProtocolError unless this is the blob of rows that the manifest names."""
    check_shape(manifest)
    if len(blob) != manifest.row_count * manifest.row_bytes:
        raise RemoteProtocolError(f"an index of {manifest.row_count} rows with {len(blob)} bytes")
    if name_of(blob) != manifest.rows:
        raise RemoteProtocolError(f"the index rows are not those that {manifest.rows} names")


def score_rows(manifest: IndexManifest, blob: Blob, queries: Int8s) -> Int64s:
    """(queries, rows) inner products, exact, of (queries, width). Raises RemoteProtocolError."""
    check_rows(manifest, blob)
    if queries.shape[1] != manifest.width:
        raise RemoteProtocolError(f"a query of {queries.shape[1]} bytes; the index is {manifest.width} wide")
    wide = queries.astype(np.float64)  # sums stay below 2^53
    parts = [wide @ rows.T.astype(np.float64) for rows in row_parts(blob, manifest.width)]
    return np.concatenate(parts, axis=1).astype(np.int64)


def check_index(manifest: IndexManifest, blob: Blob, sums: Blob) -> None:
    """Raises RemoteProtocolError unless root and every contributor's sum follow from the committed rows
    exactly, and no row is there twice: copies are never trained on, and would be paid again.
    """
    check_rows(manifest, blob)
    if len(set(manifest.row_hashes)) != manifest.row_count:
        raise RemoteProtocolError("a row stands in the index twice")
    if _rows_root(manifest.row_hashes, blob, manifest.row_bytes) != manifest.rows_root:
        raise RemoteProtocolError("the index rows are not those that its root commits")
    added = _sums(manifest.contributors, blob, manifest.width)
    for stated, total in zip(read_sums(manifest, sums), added, strict=True):
        if not np.array_equal(stated, total):
            raise RemoteProtocolError("a contributor's sum in the index is not the sum of its rows")


def recheck_row(manifest: IndexManifest, blob: Blob, position: int, row: Row, project: ProjectRow) -> bool:
    """Whether row `position` of an index is what recomputing it from `row` gives, up to rounding."""
    if not 0 <= position < manifest.row_count:
        return False
    check_rows(manifest, blob)
    size = manifest.row_bytes
    return recheck_written(manifest, position, blob[position * size : (position + 1) * size], row, project)


def recheck_written(
    manifest: IndexManifest, position: int, written: bytes, row: Row, project: ProjectRow
) -> bool:
    """The same of a row as the index wrote it, whose bytes were checked."""
    if manifest.row_hashes[position] != row_hash(row):
        return False
    (claimed,) = read_rows(written, manifest.width)
    return agrees(claimed, *project(row))


def _rows_root(hashes: Sequence[bytes], blob: Blob, size: int) -> bytes:
    starts = range(0, len(blob), size)
    pairs = zip(hashes, starts, strict=True)
    return MerkleTree(leaf_of(digest, blob[at : at + size]) for digest, at in pairs).root


def leaf_of(digest: bytes, written: bytes) -> bytes:
    """A row's leaf in the rows root: of its row hash and of the row as the index wrote it."""
    return keccak256(b"\x00" + digest + written)


def _sums(contributors: Sequence[IndexedContributor], blob: Blob, width: int) -> Iterator[Int64s]:
    """Each contributor's, one after the other: all of a large index would fill the memory."""
    size, start = 1 + width // 8, 0
    for each in contributors:
        total = np.zeros(width, np.int64)
        for rows in row_parts(blob, width, start, start + each.row_count * size):
            total += sum_rows(rows)
        yield total
        start += each.row_count * size


def map_file(path: Path) -> mmap:
    """A file's content, read as far as it is looked at. Raises AttributionFailed where there is none."""
    try:
        with path.open("rb") as file:
            return mmap(file.fileno(), 0, access=ACCESS_READ)
    except (OSError, ValueError) as wrong:
        raise AttributionFailed(f"{path} cannot be read: {wrong}") from None
