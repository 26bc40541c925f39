"""Merkle trees over keccak-256, plain and with sums. The contracts walk the same proofs.

Rules of this file:

- A leaf is 32 bytes that the caller made with the prefix 0x00 (keccak of 0x00 ‖ …), a node has the prefix
  0x01, so neither is ever taken for the other.
- plain node = keccak(0x01 ‖ hash_left ‖ hash_right)
- sum node   = keccak(0x01 ‖ hash_left ‖ sum_left ‖ hash_right ‖ sum_right), its sum the checked sum of both,
  uint128 big-endian. Both children's sums are hashed: with the total alone a child may be overstated
  (https://eprint.iacr.org/2018/1139).
- Leaves are padded to the next power of two with 32 zero bytes (sum 0). One leaf is its own root; no leaves
  have the root of 32 zero bytes.
- A proof holds the siblings from the leaf up, exactly `depth_of(count)` of them, for an index below `count`.
- A level of a sum tree is kept as one run of bytes, 48 a node (hash ‖ sum): what a node hashes is then just
  what lies there, and a tree over a million leaves takes 96 MB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import NamedTuple, TypeVar

from ..errors import LocalProtocolError
from ..ids import keccak256

ZERO_HASH = bytes(32)
MAX_SUM = (1 << 128) - 1

N = TypeVar("N")


class SumNode(NamedTuple):
    """A leaf or node of a sum tree: its hash (32 bytes) and the amount below it (uint128)."""

    hash: bytes
    amount: int


ZERO_NODE = SumNode(ZERO_HASH, 0)
_NODE = 48


def depth_of(count: int) -> int:
    """Levels above the leaves of a tree with `count` leaves: the exact length of its proofs."""
    return max(count - 1, 0).bit_length()


class MerkleTree:
    """A plain tree over 32-byte leaves, in their order."""

    def __init__(self, leaves: Iterable[bytes]) -> None:
        self._levels = _build_levels(list(leaves))

    @property
    def count(self) -> int:
        """How many leaves were given (padding not counted)."""
        return len(self._levels[0])

    @property
    def root(self) -> bytes:
        """32 bytes."""
        return self._levels[-1][0] if self._levels[0] else ZERO_HASH

    def proof(self, index: int) -> list[bytes]:
        """The siblings of leaf `index`, from the leaf up. Raises LocalProtocolError outside the tree."""
        return _siblings(self._levels, index)


class MerkleSumTree:
    """A tree that also commits to the sum of its leaves' amounts. Raises LocalProtocolError above uint128."""

    def __init__(self, leaves: Iterable[tuple[bytes, int]]) -> None:
        nodes = list(leaves)
        if any(not 0 <= amount <= MAX_SUM for _, amount in nodes):
            raise LocalProtocolError("amounts of a sum tree must be unsigned 128-bit integers")
        self._grow(b"".join([hash_ + amount.to_bytes(16, "big") for hash_, amount in nodes]))

    @classmethod
    def from_packed(cls, leaves: bytes) -> MerkleSumTree:
        """The tree over leaves packed as they are kept here: 48 bytes each, hash ‖ amount (uint128)."""
        tree = cls.__new__(cls)
        tree._grow(leaves)
        return tree

    def _grow(self, leaves: bytes) -> None:
        starts = range(0, len(leaves), _NODE)
        total = sum([int.from_bytes(leaves[start + 32 : start + _NODE], "big") for start in starts])
        if len(leaves) % _NODE or total > MAX_SUM:
            raise LocalProtocolError("amounts of a sum tree must add up to an unsigned 128-bit integer")
        self._levels = [leaves]
        for zero in _zero_nodes(depth_of(len(starts))):
            self._levels.append(_parents(self._levels[-1], zero))

    @property
    def count(self) -> int:
        """How many leaves were given (padding not counted)."""
        return len(self._levels[0]) // _NODE

    @property
    def root(self) -> bytes:
        """32 bytes."""
        return self._top.hash

    @property
    def total(self) -> int:
        """The sum of all amounts."""
        return self._top.amount

    def leaf(self, index: int) -> SumNode:
        """Leaf `index`. Raises LocalProtocolError outside the tree."""
        self._require(index)
        return _node_at(self._levels[0], index)

    def proof(self, index: int) -> list[SumNode]:
        """The siblings of leaf `index`, from the leaf up. Raises LocalProtocolError outside the tree."""
        self._require(index)
        zeros = _zero_nodes(len(self._levels) - 1)
        return [
            _sibling(level, index >> height, zero)
            for height, (level, zero) in enumerate(zip(self._levels, zeros, strict=False))
        ]

    @property
    def _top(self) -> SumNode:
        return _node_at(self._levels[-1], 0) if self._levels[0] else ZERO_NODE

    def _require(self, index: int) -> None:
        if not 0 <= index < self.count:
            raise LocalProtocolError(f"no leaf {index} in a tree of {self.count} leaves")


def verify(root: bytes, leaf: bytes, index: int, count: int, proof: Sequence[bytes]) -> bool:
    """Whether `leaf` is leaf `index` of the tree with this root and `count` leaves."""
    if not _has_shape(index, count, len(proof)) or any(len(sibling) != 32 for sibling in proof):
        return False
    return _climb(leaf, index, proof, _join) == root


def verify_sum(
    root: tuple[bytes, int],
    leaf: tuple[bytes, int],
    index: int,
    count: int,
    proof: Sequence[tuple[bytes, int]],
) -> bool:
    """Whether `leaf` (hash, amount) is leaf `index` of the sum tree of `count` leaves with (root, total).

    Padding carries nothing: where it does, the last leaf cannot be shown.
    """
    nodes = [SumNode(*node) for node in proof]
    if not _has_shape(index, count, len(nodes)) or not _is_padding_empty(index, count, nodes):
        return False
    if any(len(node.hash) != 32 or not 0 <= node.amount <= MAX_SUM for node in (*nodes, SumNode(*leaf))):
        return False
    if (
        leaf[1] + sum(node.amount for node in nodes) > MAX_SUM
    ):  # every partial sum is smaller, so none overflows
        return False
    return _climb(SumNode(*leaf), index, nodes, _join_sums) == SumNode(*root)


def _is_padding_empty(index: int, count: int, proof: Sequence[SumNode]) -> bool:
    """Whether siblings that stand for leaves beyond the count alone carry no amount."""
    places = ((index >> level) + 1 << level for level in range(len(proof)))
    return not any(
        node.amount and place >= count and not index >> level & 1
        for level, (node, place) in enumerate(zip(proof, places, strict=True))
    )


def _has_shape(index: int, count: int, length: int) -> bool:
    return 0 <= index < count and length == depth_of(count)


def _join(left: bytes, right: bytes) -> bytes:
    return keccak256(b"\x01" + left + right)


def _join_sums(left: SumNode, right: SumNode) -> SumNode:
    packed = left.hash + left.amount.to_bytes(16, "big") + right.hash + right.amount.to_bytes(16, "big")
    return SumNode(keccak256(b"\x01" + packed), left.amount + right.amount)


@cache
def _zero_nodes(depth: int) -> tuple[bytes, ...]:
    """What stands for padding on each level from the leaves up, packed: its hash and the sum 0."""
    zeros = [bytes(_NODE)]
    while len(zeros) < depth:
        zeros.append(keccak256(b"\x01" + 2 * zeros[-1]) + bytes(16))
    return tuple(zeros[:depth])


def _parents(level: bytes, zero: bytes) -> bytes:
    """The level above a packed one. That no sum overflows follows from the total."""
    padded = level + zero if len(level) // _NODE % 2 else level
    pairs = [padded[start : start + 2 * _NODE] for start in range(0, len(padded), 2 * _NODE)]
    return b"".join([keccak256(b"\x01" + pair) + _sum_of(pair) for pair in pairs])


def _sum_of(pair: bytes) -> bytes:
    return (int.from_bytes(pair[32:48], "big") + int.from_bytes(pair[80:96], "big")).to_bytes(16, "big")


def _sibling(level: bytes, index: int, zero: bytes) -> SumNode:
    sibling = index ^ 1
    return _node_at(level, sibling) if sibling < len(level) // _NODE else _node_at(zero, 0)


def _node_at(level: bytes, index: int) -> SumNode:
    node = level[index * _NODE : (index + 1) * _NODE]
    return SumNode(node[:32], int.from_bytes(node[32:], "big"))


def _build_levels(leaves: list[bytes]) -> list[list[bytes]]:
    """Levels from the leaves to the root. Subtrees of padding alone are hashed once per level, not stored."""
    levels, zero = [leaves], ZERO_HASH
    for _ in range(depth_of(len(leaves))):
        below = levels[-1]
        padded = [*below, zero] if len(below) % 2 else below
        levels.append([_join(padded[i], padded[i + 1]) for i in range(0, len(padded), 2)])
        zero = _join(zero, zero)
    return levels


def _siblings(levels: list[list[bytes]], index: int) -> list[bytes]:
    if not 0 <= index < len(levels[0]):
        raise LocalProtocolError(f"no leaf {index} in a tree of {len(levels[0])} leaves")
    proof: list[bytes] = []
    zero = ZERO_HASH
    for level in levels[:-1]:
        sibling = index ^ 1
        proof.append(level[sibling] if sibling < len(level) else zero)
        index >>= 1
        zero = _join(zero, zero)
    return proof


def _climb(node: N, index: int, proof: Sequence[N], join: Callable[[N, N], N]) -> N:
    for sibling in proof:
        node = join(sibling, node) if index & 1 else join(node, sibling)
        index >>= 1
    return node
