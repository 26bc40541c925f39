"""What is wrong with an index that was committed to, and what shows it to the contract `Indexes`.

Rules of this file: proofs are made from what was published. Where that does not give the committed roots
nothing can be shown, and nobody scores by it (RemoteProtocolError says so). The first fraud that is found is
enough: it kills the index.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from ..encoding.merkle import MerkleTree
from ..errors import RemoteProtocolError
from .index_trees import (
    CHUNK_PLACES,
    ClosingSum,
    IndexCommitment,
    IndexTrees,
    PublishedIndex,
    RunningSum,
    build_index_trees,
    row_leaves,
    sum_chunk,
    sum_tree,
    write_sum,
)
from .written_rows import HEAVIEST, LIGHTEST

Path = tuple[bytes, ...]


class IndexFraudKind(StrEnum):
    """What can be wrong."""

    BAD_ROW = "bad index row"
    TWICE = "index row twice"
    UNSORTED = "unsorted index"
    BAD_SUM = "bad index sum"
    BAD_CLOSING = "bad closing sum"
    GAP = "index rows in no sum"


@dataclass(frozen=True, slots=True)
class RowOpening:
    """A written row in the tree of rows."""

    row_hash: bytes
    written: bytes
    index: int
    path: Path


@dataclass(frozen=True, slots=True)
class RunningOpening:
    """A running sum in its tree."""

    running: RunningSum
    index: int
    path: Path


@dataclass(frozen=True, slots=True)
class ChunkOpening:
    """A running sum with the chunk of it that holds some place."""

    leaf: RunningOpening
    numbers: bytes
    path: Path


@dataclass(frozen=True, slots=True)
class ClosingOpening:
    """A contributor's sum in the tree of sums."""

    closing: ClosingSum
    index: int
    path: Path


IndexArgument = (
    RowOpening | RunningOpening | ChunkOpening | ClosingOpening | int | tuple["IndexArgument", ...]
)


@dataclass(frozen=True, slots=True)
class IndexFraud:
    """What is wrong, in words, and the arguments of the proof behind the commitment."""

    kind: IndexFraudKind
    said: str
    arguments: tuple[IndexArgument, ...]


class IndexOpenings:
    """Openings of one index's leaves, for proofs against it."""

    def __init__(self, published: PublishedIndex, trees: IndexTrees) -> None:
        self.published, self.trees = published, trees

    def row(self, number: int) -> RowOpening:
        """A row."""
        digest, path = self.published.manifest.row_hashes[number], self.trees.row_tree.proof(number)
        return RowOpening(digest, self.published.written(number), number, tuple(path))

    def running(self, number: int) -> RunningOpening:
        """The running sum at a row."""
        path = self.trees.running_tree.proof(number)
        return RunningOpening(self.trees.running[number], number, tuple(path))

    def chunk(self, number: int, place: int) -> ChunkOpening:
        """The running sum at a row, with the chunk that holds a place."""
        numbers = self._numbers(number)
        path = sum_tree(numbers).proof(place // CHUNK_PLACES)
        return ChunkOpening(self.running(number), sum_chunk(numbers, place), tuple(path))

    def closing(self, number: int) -> ClosingOpening:
        """A contributor's sum."""
        path = self.trees.sums_tree.proof(number)
        return ClosingOpening(self.trees.closing[number], number, tuple(path))

    def step(self, number: int, place: int) -> tuple[IndexArgument, ...]:
        """What shows whether the running sum at a row follows in a place: the row, the sum before and this
        one."""
        before: tuple[ChunkOpening, ...] = ()
        if number:
            leaf = self.running(number - 1)
            goes_on = leaf.running.account == self.trees.running[number].account
            before = (self.chunk(number - 1, place) if goes_on else ChunkOpening(leaf, b"", ()),)
        return self.row(number), before, self.chunk(number, place), place

    def _numbers(self, number: int) -> bytes:
        """A running sum as the trees have it: what rows add up to, or what was published."""
        added = write_sum(self.published.sum_at(number))
        if sum_tree(added).root == self.trees.running[number].sum_root:
            return added
        return self.published.stated_sum(self.published.ends.index(number + 1))


def find_index_fraud(commitment: IndexCommitment, published: PublishedIndex) -> IndexFraud | None:
    """What is wrong with a committed index; None where nothing is. Raises RemoteProtocolError where what was
    published is not what was committed."""
    leaves = row_leaves(published)
    if MerkleTree(leaves).root != commitment.rows_root:
        raise RemoteProtocolError("the index's rows are not those that were committed on the chain")
    if (wrong := _bad_row(published, leaves)) is not None:
        return wrong
    openings = IndexOpenings(published, committed_trees(commitment, published))
    found = (find(openings) for find in (_twice, _unsorted, _bad_sum, _gap))
    return next((fraud for fraud in found if fraud is not None), None)


def committed_trees(commitment: IndexCommitment, published: PublishedIndex) -> IndexTrees:
    """The trees with a commitment's roots. Raises RemoteProtocolError where what was published gives none."""
    for closes_as_published in (True, False):
        trees = build_index_trees(published, closes_as_published)
        made = (trees.row_tree.root, trees.running_tree.root, trees.sums_tree.root)
        shape = (len(trees.running), len(trees.closing), published.manifest.width)
        roots = (commitment.rows_root, commitment.running_root, commitment.sums_root)
        if (*made, *shape) == (*roots, commitment.row_count, commitment.sum_count, commitment.width):
            return trees
    raise RemoteProtocolError("the index's sums are not those that were committed on the chain")


def _bad_row(published: PublishedIndex, leaves: tuple[bytes, ...]) -> IndexFraud | None:
    size = published.manifest.row_bytes
    weights = np.frombuffer(published.rows, np.uint8)[::size]
    bad = np.flatnonzero((weights < LIGHTEST) | (weights > HEAVIEST))
    if not bad.size:
        return None
    number, path = int(bad[0]), MerkleTree(leaves).proof(int(bad[0]))
    digest, written = published.manifest.row_hashes[number], published.written(number)
    said = f"row {number} weighs {written[0]}, which no row does"
    return IndexFraud(IndexFraudKind.BAD_ROW, said, (RowOpening(digest, written, number, tuple(path)),))


def _twice(openings: IndexOpenings) -> IndexFraud | None:
    seen: dict[bytes, int] = {}
    for number, each in enumerate(openings.trees.running):
        first = seen.setdefault(each.row_hash, number)
        if first != number:
            pair = (openings.running(first), openings.running(number))
            return IndexFraud(IndexFraudKind.TWICE, f"rows {first} and {number} are one row", pair)
    return None


def _unsorted(openings: IndexOpenings) -> IndexFraud | None:
    running = openings.trees.running
    for number in range(1, len(running)):
        if running[number].account < running[number - 1].account:
            pair = (openings.running(number - 1), openings.running(number))
            said = f"row {number} stands behind those of an account above its own"
            return IndexFraud(IndexFraudKind.UNSORTED, said, pair)
    return None


def _bad_sum(openings: IndexOpenings) -> IndexFraud | None:
    """A published sum that is not that of its rows: at the account's last row, where the running sum is that
    sum, else in the tree of sums."""
    published = openings.published
    for contributor, end in enumerate(published.ends):
        stated = np.frombuffer(published.stated_sum(contributor), "<i4")
        own = published.manifest.contributors[contributor]
        wrong = np.flatnonzero(stated != published.sum_at(end - 1)) if own.row_count else np.empty(0)
        if not wrong.size:
            continue
        number, place = end - 1, int(wrong[0])
        said = (
            f"the sum of 0x{own.payee.hex()} is not that of its {own.row_count} rows, first in place {place}"
        )
        if openings.trees.running[number].sum_root == openings.trees.closing[contributor].sum_root:
            return IndexFraud(IndexFraudKind.BAD_SUM, said, openings.step(number, place))
        last = (openings.running(number),)
        return IndexFraud(IndexFraudKind.BAD_CLOSING, said, (openings.closing(contributor), last))
    return None


def _gap(openings: IndexOpenings) -> IndexFraud | None:
    """A contributor without rows."""
    for number, each in enumerate(openings.published.manifest.contributors):
        if not each.row_count:
            before = (openings.closing(number - 1),) if number else ()
            said = f"0x{each.payee.hex()} has a sum and no rows"
            return IndexFraud(IndexFraudKind.GAP, said, (before, openings.closing(number), ()))
    return None
