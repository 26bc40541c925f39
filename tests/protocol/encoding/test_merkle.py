"""Merkle trees: shared vectors, a naive second implementation, and proofs that must not verify."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonlore.protocol.encoding.merkle import (
    MAX_SUM,
    MerkleSumTree,
    MerkleTree,
    SumNode,
    depth_of,
    verify,
    verify_sum,
)
from commonlore.protocol.errors import LocalProtocolError
from commonlore.protocol.ids import keccak256

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "merkle.json").read_text())
hashes = st.binary(min_size=32, max_size=32)
sum_leaves = st.lists(st.tuples(hashes, st.integers(0, 10**30)), min_size=1, max_size=20)


def naive_root(leaves: list[tuple[bytes, int]], *, sums: bool) -> tuple[bytes, int]:
    """The definition, word for word: pad to the next power of two, hash pairwise until one is left."""
    width = 1
    while width < len(leaves):
        width *= 2
    level = [*leaves, *[(bytes(32), 0)] * (width - len(leaves))]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=True)
        level = [join_naive(left, right, sums=sums) for left, right in pairs]
    return level[0]


def join_naive(left: tuple[bytes, int], right: tuple[bytes, int], *, sums: bool) -> tuple[bytes, int]:
    parts = [left[0], left[1].to_bytes(16, "big"), right[0], right[1].to_bytes(16, "big")]
    return keccak256(b"\x01" + b"".join(parts if sums else parts[::2])), left[1] + right[1]


@pytest.mark.parametrize("case", VECTORS["plain"], ids=lambda case: str(len(case["leaves"])))
def test_plain_vectors(case):
    leaves = [bytes.fromhex(leaf) for leaf in case["leaves"]]
    tree = MerkleTree(leaves)
    assert tree.root.hex() == case["root"]
    assert [[s.hex() for s in tree.proof(i)] for i in range(len(leaves))] == case["proofs"]


@pytest.mark.parametrize("case", VECTORS["sum"], ids=lambda case: str(len(case["leaves"])))
def test_sum_vectors(case):
    leaves = [(bytes.fromhex(leaf["hash"]), int(leaf["amount"])) for leaf in case["leaves"]]
    tree = MerkleSumTree(leaves)
    assert (tree.root.hex(), str(tree.total)) == (case["root"], case["total"])
    proofs = [
        [{"hash": s.hash.hex(), "amount": str(s.amount)} for s in tree.proof(i)] for i in range(len(leaves))
    ]
    assert proofs == case["proofs"]


def test_no_leaves_have_the_zero_root_and_one_leaf_is_its_own():
    assert MerkleTree([]).root == bytes(32)
    assert (MerkleSumTree([]).root, MerkleSumTree([]).total) == (bytes(32), 0)
    assert MerkleTree([b"a" * 32]).root == b"a" * 32
    assert MerkleSumTree([(b"a" * 32, 7)]).total == 7


@given(st.lists(hashes, min_size=1, max_size=20))
def test_every_leaf_of_a_plain_tree_is_proved(leaves):
    tree = MerkleTree(leaves)
    assert tree.root == naive_root([(leaf, 0) for leaf in leaves], sums=False)[0]
    assert all(verify(tree.root, leaf, i, len(leaves), tree.proof(i)) for i, leaf in enumerate(leaves))


@given(sum_leaves)
def test_every_leaf_of_a_sum_tree_is_proved(leaves):
    tree = MerkleSumTree(leaves)
    root = (tree.root, tree.total)
    assert root == naive_root(leaves, sums=True)
    assert tree.total == sum(amount for _, amount in leaves)
    assert all(verify_sum(root, leaf, i, len(leaves), tree.proof(i)) for i, leaf in enumerate(leaves))


@given(sum_leaves, st.data())
def test_another_amount_total_index_or_count_is_not_proved(leaves, data):
    tree, count = MerkleSumTree(leaves), len(leaves)
    root = SumNode(tree.root, tree.total)
    index = data.draw(st.integers(0, count - 1))
    (leaf, amount), proof = leaves[index], tree.proof(index)
    assert not verify_sum(root, (leaf, amount + 1), index, count, proof)
    assert not verify_sum((tree.root, tree.total + 1), (leaf, amount), index, count, proof)
    assert not verify_sum(root, (leaf, amount), index, count, [*proof, SumNode(bytes(32), 0)])
    assert not verify_sum(root, (leaf, amount), index + 2 ** depth_of(count), count, proof)
    assert not verify_sum(root, (leaf, amount), index, index, proof)


def test_padding_is_not_claimable():
    tree = MerkleSumTree([(b"a" * 32, 1), (b"b" * 32, 2), (b"c" * 32, 3)])
    proof = [SumNode(b"c" * 32, 3), tree.proof(2)[1]]
    assert verify_sum((tree.root, 6), (bytes(32), 0), 3, 4, proof)  # it is there
    assert not verify_sum((tree.root, 6), (bytes(32), 0), 3, 3, proof)  # but not below the count


@pytest.mark.parametrize(
    ("count", "index", "is_shown"), [(3, 2, False), (3, 1, True), (5, 4, False), (6, 4, False)]
)
def test_no_amount_hides_beyond_the_count(count, index, is_shown):
    """A tree of more leaves than it is said to have: the last of those that count cannot be shown."""
    leaves = [(bytes([i]) * 32, i + 1) for i in range(count + 1 if count < 5 else 8)]
    tree = MerkleSumTree(leaves)
    root = (tree.root, tree.total)
    assert verify_sum(root, leaves[index], index, tree.count, tree.proof(index))
    assert verify_sum(root, leaves[index], index, count, tree.proof(index)) is is_shown


def test_moving_value_between_siblings_changes_the_root():
    """Why both sums are in the preimage: hashing only the total would let a proof overstate one child."""
    one, other = (b"a" * 32, 10), (b"b" * 32, 0)
    assert MerkleSumTree([one, other]).root != MerkleSumTree([(one[0], 0), (other[0], 10)]).root


def test_overflow_and_malformed_proofs():
    with pytest.raises(LocalProtocolError, match="128-bit"):
        MerkleSumTree([(b"a" * 32, MAX_SUM), (b"b" * 32, 1)])
    with pytest.raises(LocalProtocolError, match="128-bit"):
        MerkleSumTree([(b"a" * 32, -1)])
    with pytest.raises(LocalProtocolError, match="no leaf 1"):
        MerkleTree([b"a" * 32]).proof(1)
    root = (MerkleSumTree([(b"a" * 32, 1), (b"b" * 32, 2)]).root, 3)
    assert not verify_sum(root, (b"a" * 32, 1), 0, 2, [SumNode(b"b" * 32, MAX_SUM)])
    assert not verify_sum(root, (b"a" * 32, 1), 0, 2, [SumNode(b"b" * 31, 2)])
    assert not verify_sum(root, (b"a" * 32, 4), 0, 2, [SumNode(b"b" * 32, -1)])
    assert not verify(root[0], b"a" * 32, 0, 2, [b"short"])
