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
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from .errors import LocalProtocolError
from .ids import keccak256

ZERO_HASH = bytes(32)
MAX_SUM = (1 << 128) - 1

N = TypeVar("N")


class SumNode(NamedTuple):
    """A leaf or node of a sum tree: its hash (32 bytes) and the amount below it (uint128)."""

    hash: bytes
    amount: int


ZERO_NODE = SumNode(ZERO_HASH, 0)


def depth_of(count: int) -> int:
    """Levels above the leaves of a tree with `count` leaves: the exact length of its proofs."""
    return max(count - 1, 0).bit_length()


class MerkleTree:
    """A plain tree over 32-byte leaves, in their order."""

    def __init__(self, leaves: Iterable[bytes]) -> None:
        self._levels = _build_levels(list(leaves), ZERO_HASH, _join)

    @property
    def count(self) -> int:
        """How many leaves were given (padding not counted)."""
        return len(self._levels[0])

    @property
    def root(self) -> bytes:
        """32 bytes."""
        return _root_of(self._levels, ZERO_HASH)

    def proof(self, index: int) -> list[bytes]:
        """The siblings of leaf `index`, from the leaf up. Raises LocalProtocolError outside the tree."""
        return _siblings(self._levels, index, ZERO_HASH, _join)


class MerkleSumTree:
    """A tree that also commits to the sum of its leaves' amounts. Raises LocalProtocolError above uint128."""

    def __init__(self, leaves: Iterable[tuple[bytes, int]]) -> None:
        nodes = [SumNode(*leaf) for leaf in leaves]
        if any(not 0 <= node.amount <= MAX_SUM for node in nodes) or sum(n.amount for n in nodes) > MAX_SUM:
            raise LocalProtocolError(
                "amounts of a sum tree must be, and add up to, unsigned 128-bit integers"
            )
        self._levels = _build_levels(nodes, ZERO_NODE, _join_sums)

    @property
    def count(self) -> int:
        """How many leaves were given (padding not counted)."""
        return len(self._levels[0])

    @property
    def root(self) -> bytes:
        """32 bytes."""
        return _root_of(self._levels, ZERO_NODE).hash

    @property
    def total(self) -> int:
        """The sum of all amounts."""
        return _root_of(self._levels, ZERO_NODE).amount

    def proof(self, index: int) -> list[SumNode]:
        """The siblings of leaf `index`, from the leaf up. Raises LocalProtocolError outside the tree."""
        return _siblings(self._levels, index, ZERO_NODE, _join_sums)


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
    """Whether `leaf` (hash, amount) is leaf `index` of the sum tree of `count` leaves with (root, total)."""
    nodes = [SumNode(*node) for node in proof]
    if not _has_shape(index, count, len(nodes)):
        return False
    if any(len(node.hash) != 32 or not 0 <= node.amount <= MAX_SUM for node in (*nodes, SumNode(*leaf))):
        return False
    if (
        leaf[1] + sum(node.amount for node in nodes) > MAX_SUM
    ):  # every partial sum is smaller, so none overflows
        return False
    return _climb(SumNode(*leaf), index, nodes, _join_sums) == SumNode(*root)


def _has_shape(index: int, count: int, length: int) -> bool:
    return 0 <= index < count and length == depth_of(count)


def _join(left: bytes, right: bytes) -> bytes:
    return keccak256(b"\x01" + left + right)


def _join_sums(left: SumNode, right: SumNode) -> SumNode:
    packed = left.hash + left.amount.to_bytes(16, "big") + right.hash + right.amount.to_bytes(16, "big")
    return SumNode(keccak256(b"\x01" + packed), left.amount + right.amount)


def _build_levels(leaves: list[N], zero: N, join: Callable[[N, N], N]) -> list[list[N]]:
    """Levels from the leaves to the root. Subtrees of padding alone are hashed once per level, not stored."""
    levels = [leaves]
    for _ in range(depth_of(len(leaves))):
        below = levels[-1]
        padded = [*below, zero] if len(below) % 2 else below
        levels.append([join(padded[i], padded[i + 1]) for i in range(0, len(padded), 2)])
        zero = join(zero, zero)
    return levels


def _root_of(levels: list[list[N]], zero: N) -> N:
    return levels[-1][0] if levels[0] else zero


def _siblings(levels: list[list[N]], index: int, zero: N, join: Callable[[N, N], N]) -> list[N]:
    if not 0 <= index < len(levels[0]):
        raise LocalProtocolError(f"no leaf {index} in a tree of {len(levels[0])} leaves")
    proof: list[N] = []
    for level in levels[:-1]:
        sibling = index ^ 1
        proof.append(level[sibling] if sibling < len(level) else zero)
        index >>= 1
        zero = join(zero, zero)
    return proof


def _climb(node: N, index: int, proof: Sequence[N], join: Callable[[N, N], N]) -> N:
    for sibling in proof:
        node = join(sibling, node) if index & 1 else join(node, sibling)
        index >>= 1
    return node
