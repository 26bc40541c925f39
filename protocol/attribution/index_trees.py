"""What an index's maker commits to on a chain, made from what it publishes. The contract `Indexes` judges it.

Rules of this file:

- Three plain Merkle trees. Rows, keccak(0x00 ‖ row hash ‖ written row): the index's own `rows_root`.
  Running sums in the order of the rows, keccak(0x00 ‖ account ‖ row hash ‖ sum root): the sum of the
  account's rows up to and including this one. Closing sums in the order of the contributors, keccak(0x00 ‖
  account ‖ end ‖ sum root), `end` (4 bytes, big-endian) being the number of rows up to and including its
  last.
- A sum root is that of the sum's chunks of 1,024 places, keccak(0x00 ‖ little-endian int32s), so that one
  transaction carries what one place needs: 4,096 bytes of a sum that is 131,072.
- An account's last running sum is its closing sum, by which answers are scored. Nothing else is published for
  the chain: the running sums follow from the rows, but for the last of each account, which is the published
  sum. So whoever has the index has all that a proof shows.
- No sum overflows: rows are at most 100,000, of at most 64 in each place, below 2^23.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np

from ..content.manifests import IndexManifest
from ..encoding.merkle import MerkleTree
from ..errors import RemoteProtocolError
from ..ids import Address, Cid, digest_of, keccak256
from .scoring import MAX_WIDTH, Int64s, sum_rows
from .written_rows import Blob, read_rows, row_parts

CHUNK_PLACES = 1_024
_NUMBER = 4


@dataclass(frozen=True, slots=True)
class IndexCommitment:
    """What the chain is told of an index. `adapter` and `manifest`, the published index, are sha2-256."""

    maker: Address
    adapter: bytes
    manifest: bytes
    rows_root: bytes
    running_root: bytes
    sums_root: bytes
    row_count: int
    sum_count: int
    width: int


@dataclass(frozen=True, slots=True)
class RunningSum:
    """Whose a row is, and the root of its account's sum so far."""

    account: Address
    row_hash: bytes
    sum_root: bytes

    @property
    def leaf(self) -> bytes:
        """32 bytes."""
        return keccak256(b"\x00" + self.account + self.row_hash + self.sum_root)


@dataclass(frozen=True, slots=True)
class ClosingSum:
    """An account's sum, by its root, and how many rows there are up to its last."""

    account: Address
    end: int
    sum_root: bytes

    @property
    def leaf(self) -> bytes:
        """32 bytes."""
        return keccak256(b"\x00" + self.account + self.end.to_bytes(4, "big") + self.sum_root)


@dataclass(frozen=True)
class PublishedIndex:
    """An index and the blobs that it names. Raises RemoteProtocolError unless they are as long as it says."""

    manifest: IndexManifest
    rows: Blob
    sums: Blob

    def __post_init__(self) -> None:
        manifest = self.manifest
        owned = sum(each.row_count for each in manifest.contributors)
        sizes = (len(self.rows), len(self.sums), len(manifest.row_hashes), owned)
        due = (manifest.row_count * manifest.row_bytes, manifest.sums_bytes, manifest.row_count)
        if sizes != (*due, manifest.row_count) or manifest.width % 8 or not 0 < manifest.width <= MAX_WIDTH:
            raise RemoteProtocolError(
                f"an index of {manifest.row_count} rows of {manifest.width} places cannot have {sizes[0]} "
                f"bytes of rows, {sizes[1]} of sums, {sizes[2]} hashes and {owned} rows of contributors"
            )

    def written(self, number: int) -> bytes:
        """Row `number` as it is written."""
        size = self.manifest.row_bytes
        return self.rows[number * size : (number + 1) * size]

    def stated_sum(self, contributor: int) -> bytes:
        """A contributor's published sum."""
        size = _NUMBER * self.manifest.width
        return self.sums[contributor * size : (contributor + 1) * size]

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Behind which row each contributor's end."""
        return _ends(self.manifest)

    def sum_at(self, number: int) -> Int64s:
        """The sum of a contributor's rows up to and including row `number`. Raises RemoteProtocolError."""
        start = max((end for end in self.ends if end <= number), default=0)
        size, total = self.manifest.row_bytes, np.zeros(self.manifest.width, np.int64)
        for rows in row_parts(self.rows, self.manifest.width, start * size, (number + 1) * size):
            total += sum_rows(rows)
        return total


@dataclass(frozen=True)
class IndexTrees:
    """The leaves of an index's three trees, and the trees."""

    row_leaves: tuple[bytes, ...]
    running: tuple[RunningSum, ...]
    closing: tuple[ClosingSum, ...]

    @cached_property
    def row_tree(self) -> MerkleTree:
        """Over the written rows."""
        return MerkleTree(self.row_leaves)

    @cached_property
    def running_tree(self) -> MerkleTree:
        """Over the running sums."""
        return MerkleTree(each.leaf for each in self.running)

    @cached_property
    def sums_tree(self) -> MerkleTree:
        """Over the contributors' sums."""
        return MerkleTree(each.leaf for each in self.closing)

    def commitment(self, maker: Address, index: Cid, manifest: IndexManifest) -> IndexCommitment:
        """As `maker` commits to it. `index` names what is published."""
        roots = (self.row_tree.root, self.running_tree.root, self.sums_tree.root)
        counts = (len(self.running), len(self.closing), manifest.width)
        return IndexCommitment(maker, digest_of(manifest.adapter), digest_of(index), *roots, *counts)


def build_index_trees(published: PublishedIndex, closes_as_published: bool = True) -> IndexTrees:
    """The trees over an index. Unless it `closes_as_published`, each account's last running sum is what its
    rows add up to. Raises RemoteProtocolError where a row is none."""
    manifest, closing = published.manifest, closing_sums(published.manifest, published.sums)
    roots = list(_running_roots(published))
    if closes_as_published:
        for each, contributor in zip(closing, manifest.contributors, strict=True):
            if contributor.row_count:
                roots[each.end - 1] = each.sum_root
    running = zip(manifest.owners, manifest.row_hashes, roots, strict=True)
    return IndexTrees(row_leaves(published), tuple(RunningSum(*each) for each in running), closing)


def row_leaves(published: PublishedIndex) -> tuple[bytes, ...]:
    """Of the tree of rows."""
    hashes = enumerate(published.manifest.row_hashes)
    return tuple(keccak256(b"\x00" + digest + published.written(number)) for number, digest in hashes)


def closing_sums(manifest: IndexManifest, sums: Blob) -> tuple[ClosingSum, ...]:
    """Every contributor's sum, as published."""
    size, ends = _NUMBER * manifest.width, _ends(manifest)
    starts = range(0, len(sums), size)
    roots = [sum_tree(sums[start : start + size]).root for start in starts]
    return tuple(ClosingSum(*each) for each in zip(manifest.payees, ends, roots, strict=True))


def sums_root(manifest: IndexManifest, sums: Blob) -> bytes:
    """The root that binds a blob of sums, as long as the index says; needs no rows."""
    return MerkleTree(each.leaf for each in closing_sums(manifest, sums)).root


def sum_tree(numbers: bytes) -> MerkleTree:
    """Over the chunks of a sum."""
    return MerkleTree(keccak256(b"\x00" + chunk) for chunk in _chunks(numbers))


def sum_chunk(numbers: bytes, place: int) -> bytes:
    """The chunk of a sum that holds a place."""
    return _chunks(numbers)[place // CHUNK_PLACES]


def write_sum(total: Int64s) -> bytes:
    """A sum as it is published, and hashed."""
    return total.astype("<i4").tobytes()


def _ends(manifest: IndexManifest) -> tuple[int, ...]:
    return tuple(accumulate(each.row_count for each in manifest.contributors))


def _chunks(numbers: bytes) -> list[bytes]:
    size = _NUMBER * CHUNK_PLACES
    return [numbers[at : at + size] for at in range(0, len(numbers), size)]


def _running_roots(published: PublishedIndex) -> Iterator[bytes]:
    """Of what the rows add up to, row by row."""
    width, starts = published.manifest.width, {0, *published.ends}
    total = np.zeros(width, np.int64)
    for number in range(published.manifest.row_count):
        if number in starts:
            total = np.zeros(width, np.int64)
        total += read_rows(published.written(number), width)[0]
        yield sum_tree(write_sum(total)).root
