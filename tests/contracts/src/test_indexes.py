"""Gradient indexes on chain: what integers can show to be wrong, and that true ones stand."""

from dataclasses import replace

import numpy as np
import pytest

from commonlore.contracts.deploying.terms import CheckTerms
from commonlore.contracts.staging.cast import BOND, LANE, TERMS, WATCHER, key_of
from commonlore.contracts.staging.stage import Stage
from commonlore.protocol.encoding.merkle import MerkleTree
from commonlore.protocol.ids import checksummed, keccak256

ATTRIBUTOR = 4
MAKER = key_of("attributor").address
WIDTH, OWNERS = 6, (b"\x0a" * 20, b"\x0a" * 20, b"\x0b" * 20, b"\x0b" * 20, b"\x0b" * 20)
ROWS = np.random.default_rng(1).integers(-127, 128, (5, WIDTH)).astype(np.int8)
HASHES = [keccak256(bytes([i])) for i in range(5)]


def running(rows=ROWS, owners=OWNERS):
    sums, total = [], np.zeros(WIDTH, np.int64)
    for number, row in enumerate(rows):
        started = number and owners[number] == owners[number - 1]
        total = (total if started else 0) + row.astype(np.int64)
        sums.append(total.astype("<i8").tobytes())
    return sums


class Index:
    """A committed index; `rows` and `sums` may be wrong."""

    def __init__(self, stage, rows=ROWS, sums=None):
        self.stage, self.sums = stage, sums or running(rows)
        self.vectors = [row if isinstance(row, bytes) else row.tobytes() for row in rows]
        self.row_tree = MerkleTree(
            keccak256(b"\x00" + digest + vector) for digest, vector in zip(HASHES, self.vectors, strict=True)
        )
        self.sum_tree = MerkleTree(
            keccak256(b"\x00" + owner + digest + keccak256(total))
            for owner, digest, total in zip(OWNERS, HASHES, self.sums, strict=True)
        )
        roots = (self.row_tree.root, self.sum_tree.root)
        self.fields = (keccak256(b"adapter"), keccak256(b"manifest"), *roots, len(rows), WIDTH)
        self.id = stage.network.read("Indexes", "indexId", self.fields)

    def commit(self, sender=MAKER):
        return self.stage.network.refusal(sender, "Indexes", "commitIndex", self.fields)

    def row(self, index):
        return (HASHES[index], self.vectors[index], index, self.row_tree.proof(index))

    def sum(self, index):
        owner = checksummed(OWNERS[index])
        return (owner, HASHES[index], self.sums[index], index, self.sum_tree.proof(index))

    def prove_row(self, index, place=0):
        call = (self.fields, self.row(index), place)
        return self.stage.network.refusal(WATCHER, "Indexes", "proveRow", *call)

    def prove_sum(self, index, place=0, before=True):
        earlier = [self.sum(index - 1)] if index and before else []
        call = (self.fields, self.row(index), earlier, self.sum(index), place)
        return self.stage.network.refusal(WATCHER, "Indexes", "proveSum", *call)

    def is_good(self):
        return self.stage.network.read("Indexes", "isGood", self.id)


@pytest.fixture
def stage():
    stage = Stage(replace(TERMS, checks=CheckTerms(minimum_bond=100)))
    stage.bond(MAKER, ATTRIBUTOR, BOND)
    return stage


def test_a_true_index_counts_after_its_window_and_cannot_be_shown_wrong(stage):
    index = Index(stage)
    assert index.commit() is None
    assert index.commit() == "AlreadyCommitted"
    for number in range(5):
        for place in range(WIDTH):
            assert index.prove_row(number, place) == "NotFraud"
            assert index.prove_sum(number, place) == "NotFraud"
    assert index.prove_sum(1, before=False) == "BadProof"
    assert not index.is_good()
    stage.network.wait(TERMS.window)
    assert index.is_good()


@pytest.mark.parametrize("row", [0, 1, 2, 4])
def test_a_sum_that_is_not_of_its_rows_is_shown(stage, row):
    sums = running()
    wrong = np.frombuffer(sums[row], "<i8").copy()
    wrong[3] -= 1
    sums[row] = wrong.tobytes()
    index = Index(stage, sums=sums)
    index.commit()
    assert index.prove_sum(row, 2) == "NotFraud"
    assert index.prove_sum(row, 3) is None
    assert stage.network.tokens(WATCHER) == BOND // 2
    stage.network.wait(TERMS.window)
    assert not index.is_good()
    assert index.prove_sum(row, 3) == "UnknownIndex"
    stage.bond(MAKER, ATTRIBUTOR, BOND)
    assert index.commit() == "AlreadyCommitted", "what was shown wrong does not come back"


def test_a_sum_of_another_length_or_row_is_shown(stage):
    sums = running()
    sums[4] = sums[4][:-8]
    index = Index(stage, sums=sums)
    index.commit()
    assert index.prove_sum(4, 0) is None


def test_rows_that_are_no_vectors_are_shown(stage):
    odd = [ROWS[0], ROWS[1].tobytes() + b"\x00", ROWS[2].copy(), ROWS[3], ROWS[4]]
    odd[2][5] = -128
    index = Index(stage, odd, running())
    index.commit()
    assert index.prove_row(2, 4) == "NotFraud"
    for row, place in ((1, 0), (2, 5)):
        before = stage.network.snapshot()
        assert index.prove_row(row, place) is None
        stage.network.revert(before)


def test_only_bonded_attributors_commit_and_only_to_something(stage):
    index = Index(stage)
    assert index.commit(LANE.address) == "BondTooSmall"
    assert index.prove_row(0) == "NotFraud"
    empty = (*index.fields[:4], 0, WIDTH)
    assert stage.network.refusal(MAKER, "Indexes", "commitIndex", empty) == "EmptyIndex"


def test_after_the_window_nothing_is_shown(stage):
    sums = running()
    sums[0] = bytes(len(sums[0]))
    index = Index(stage, sums=sums)
    index.commit()
    stage.network.wait(TERMS.window)
    assert index.prove_sum(0, int(np.flatnonzero(ROWS[0])[0])) == "WindowClosed"


def test_leaves_must_be_in_their_trees(stage):
    index = Index(stage)
    index.commit()
    moved = (*index.row(1)[:2], 2, index.row(1)[3])
    assert stage.network.refusal(WATCHER, "Indexes", "proveRow", index.fields, moved, 0) == "BadProof"
    short = (*index.row(1)[:3], index.row(1)[3][:-1])
    assert stage.network.refusal(WATCHER, "Indexes", "proveRow", index.fields, short, 0) == "BadProof"
