"""The gradient index of an adapter: one committed int8 vector a row, one exact sum a contributor.

Rules of this file:
- Rows stand grouped by payee, payees ascending, each payee's rows in the order given; the sums stand in the
  same order, so their row counts say whose each row is.
- rows root = the plain Merkle root of keccak(0x00 ‖ row hash ‖ vector). `rows` names the vectors, one after
  another.
- A build may be killed at any row: vectors are appended to a file under a digest of everything they depend
  on, and the next build goes on behind the last whole one. A file under another digest is begun anew.
- Whoever doubts a row recomputes it (`recheck_row`); whoever doubts a sum adds the rows up (`check_index`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...protocol.attribution import write_sum
from ...protocol.blob_names import describe_blob
from ...protocol.errors import AttributionFailed, RemoteProtocolError
from ...protocol.ids import Address, keccak256
from ...protocol.manifests import MAX_ROWS_PER_SHARD, ContributorSum, IndexManifest, Row
from ...protocol.merkle import MerkleTree
from ...protocol.rows import row_hash
from .sketch import Int8s, agrees
from .subject import Subject

_DIGEST_BYTES = 32
ComputeVectors = Callable[[Sequence[Row]], Sequence[Int8s]]
"""The vectors of some rows under one adapter and one projection."""


@dataclass(frozen=True, slots=True)
class OwnedRow:
    """A row and the account that its contributor is paid at."""

    payee: Address
    row: Row


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
            file.write(b"".join(vector.tobytes() for vector in vectors))
        self.done_rows += len(batch)

    def finish(self) -> tuple[IndexManifest, bytes]:
        """The manifest, ready to be sealed, and the blob that its `rows` names."""
        blob = self._path.read_bytes()[_DIGEST_BYTES:]
        matrix = np.frombuffer(blob, np.int8).reshape(len(self.rows), self.subject.width)
        manifest = IndexManifest(
            adapter=self.subject.adapter,
            method=self.subject.method,
            width=self.subject.width,
            seed=self.subject.seed,
            row_count=len(self.rows),
            rows=describe_blob([blob])[0],
            rows_root=_rows_root(self.hashes, matrix),
            row_hashes=self.hashes,
            sums=_sums([owned.payee for owned in self.rows], matrix),
            beacon=self.subject.beacon,
        )
        return manifest, blob

    def _resume(self) -> int:
        digest = self._digest()
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            content = b""
        width = self.subject.width
        whole = min((len(content) - _DIGEST_BYTES) // width, len(self.rows))
        if content[:_DIGEST_BYTES] != digest or whole < 0:
            content, whole = digest, 0
        self._path.write_bytes(content[: _DIGEST_BYTES + whole * width])
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
) -> tuple[IndexManifest, bytes]:
    """Index rows one at a time, keeping what is done in the file `path`.

    `progress` is told rows done and all rows.
    """
    build = IndexBuild(subject, rows, path)
    while not build.done:
        build.advance(compute, 1)
        progress(build.done_rows, len(rows))
    return build.finish()


def read_vectors(manifest: IndexManifest, blob: bytes) -> Int8s:
    """The rows' vectors, (rows, width). Raises RemoteProtocolError where the blob is not the one named."""
    size = manifest.row_count * manifest.width
    if len(manifest.row_hashes) != manifest.row_count or len(blob) != size:
        raise RemoteProtocolError(
            f"an index of {manifest.row_count} rows with {len(manifest.row_hashes)} hashes, {len(blob)} bytes"
        )
    if describe_blob([blob])[0] != manifest.rows:
        raise RemoteProtocolError(f"the index rows are not those that {manifest.rows} names")
    return np.frombuffer(blob, np.int8).reshape(manifest.row_count, manifest.width)


def check_index(manifest: IndexManifest, blob: bytes) -> None:
    """Raises RemoteProtocolError unless root and every contributor's sum follow from the committed rows
    exactly.
    """
    matrix = read_vectors(manifest, blob)
    if _rows_root(manifest.row_hashes, matrix) != manifest.rows_root:
        raise RemoteProtocolError("the index rows are not those that its root commits")
    owners = [entry.payee for entry in manifest.sums for _ in range(entry.row_count)]
    if len(owners) != manifest.row_count or _sums(owners, matrix) != manifest.sums:
        raise RemoteProtocolError("a contributor's sum in the index is not the sum of its rows")


def recheck_row(
    manifest: IndexManifest, blob: bytes, position: int, row: Row, compute: ComputeVectors
) -> bool:
    """Whether row `position` of an index is what recomputing it from `row` gives, up to rounding."""
    if not 0 <= position < manifest.row_count or manifest.row_hashes[position] != row_hash(row):
        return False
    return agrees(read_vectors(manifest, blob)[position], compute([row])[0])


def _rows_root(hashes: Sequence[bytes], matrix: Int8s) -> bytes:
    pairs = zip(hashes, matrix, strict=True)
    leaves = (keccak256(b"\x00" + digest + vector.tobytes()) for digest, vector in pairs)
    return MerkleTree(leaves).root


def _sums(owners: Sequence[Address], matrix: Int8s) -> tuple[ContributorSum, ...]:
    sums: list[ContributorSum] = []
    start = 0
    while start < len(owners):
        stop = start
        while stop < len(owners) and owners[stop] == owners[start]:
            stop += 1
        sums.append(write_sum(owners[start], matrix[start:stop]))
        start = stop
    return tuple(sums)
