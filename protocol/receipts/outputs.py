"""How output tokens are committed: a running hash while they stream, a Merkle root in each receipt.

Rules of this file, with token ids as uint32 big-endian and TOKENS_PER_LEAF = 32:

- Running hash, over the whole request: H_0 is the request hash, H_i = sha256(H_{i-1} ‖ the 32 tokens of leaf
  i). The chunk that completes a leaf carries H of the last leaf it completes; other chunks carry none.
- Output root, over the tokens that one receipt pays: the plain Merkle root over leaves keccak(0x00 ‖ up to 32
  tokens); no tokens have the root of 32 zero bytes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from ..encoding.merkle import MerkleTree
from ..ids import keccak256

TOKENS_PER_LEAF = 32
"""Output tokens a leaf of the output's Merkle tree, and between running hashes, holds."""


@dataclass(frozen=True, slots=True)
class RunningHash:
    """The hash after the last whole leaf, how many leaves that are, and the tokens since."""

    value: bytes
    leaves: int = 0
    pending: tuple[int, ...] = ()

    def extend(self, tokens: Sequence[int]) -> RunningHash:
        """The state after more tokens."""
        value, leaves, pending = self.value, self.leaves, (*self.pending, *tokens)
        while len(pending) >= TOKENS_PER_LEAF:
            value = hashlib.sha256(value + pack_tokens(pending[:TOKENS_PER_LEAF])).digest()
            leaves, pending = leaves + 1, pending[TOKENS_PER_LEAF:]
        return RunningHash(value, leaves, pending)

    def since(self, before: RunningHash) -> bytes | None:
        """What a chunk from `before` to here carries: this value if it completed a leaf, else None."""
        return self.value if self.leaves > before.leaves else None


def output_leaves(tokens: Sequence[int]) -> list[bytes]:
    """The leaves (32 bytes each) of the tokens of one receipt."""
    return [
        keccak256(b"\x00" + pack_tokens(tokens[start : start + TOKENS_PER_LEAF]))
        for start in range(0, len(tokens), TOKENS_PER_LEAF)
    ]


def output_root(tokens: Sequence[int]) -> bytes:
    """The root (32 bytes) of the tokens of one receipt."""
    return MerkleTree(output_leaves(tokens)).root


def pack_tokens(tokens: Sequence[int]) -> bytes:
    """Four bytes a token, big-endian."""
    return struct.pack(f">{len(tokens)}I", *tokens)
