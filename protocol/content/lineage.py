"""An adapter's lineage as the Registry records it: who contributed to it, and what shows that somebody did
not.

Rules of this file: records are named by their ids in the Registry. A Datanet version's contributors are a
plain tree over their sorted accounts; a gap is two neighbours in it between which an account would stand,
with nothing on a side beyond its end.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..encoding.merkle import ZERO_HASH, MerkleTree
from ..errors import LocalProtocolError
from ..ids import ZERO_ADDRESS, Address, keccak256


@dataclass(frozen=True, slots=True)
class Ancestor:
    """An adapter's record with what its lineage is the hash of: record ids."""

    record_id: bytes
    datanets: tuple[bytes, ...]
    parents: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ContributorGap:
    """Two neighbours among a Datanet version's contributors; `is_left` or `is_right` is false beyond the
    ends, where its account is zero."""

    is_left: bool
    left: Address
    left_index: int
    left_path: tuple[bytes, ...]
    is_right: bool
    right: Address
    right_path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Lineage:
    """An adapter's ancestry (itself first, then every record reached through parents), and the contributors
    of each Datanet in it, by its record id."""

    ancestry: tuple[Ancestor, ...]
    contributors: Mapping[bytes, Sequence[Address]] = field(default_factory=dict[bytes, Sequence[Address]])

    @property
    def datanets(self) -> tuple[bytes, ...]:
        """The record ids of all Datanets, as the ancestry lists them."""
        return tuple(datanet for entry in self.ancestry for datanet in entry.datanets)

    def has(self, account: Address) -> bool:
        """Whether an account contributed to any Datanet of it."""
        return any(account in self.contributors[datanet] for datanet in self.datanets)

    def gaps(self, account: Address) -> tuple[ContributorGap, ...]:
        """What shows that an account contributed to none, for each of `datanets` in turn.

        Raises LocalProtocolError where it did.
        """
        return tuple(contributor_gap(self.contributors[datanet], account) for datanet in self.datanets)


def contributor_gap(contributors: Sequence[Address], account: Address) -> ContributorGap:
    """Where an account would stand among a Datanet version's contributors.

    Raises LocalProtocolError where it stands there, or nobody does.
    """
    known = sorted(set(contributors))
    right = bisect_left(known, account)
    if not known or account in known:
        raise LocalProtocolError(f"0x{account.hex()} leaves no gap among {len(known)} contributors")
    tree = MerkleTree(keccak256(b"\x00" + each) for each in known)
    return ContributorGap(
        is_left=right > 0,
        left=known[right - 1] if right else ZERO_ADDRESS,
        left_index=max(right - 1, 0),
        left_path=tuple(tree.proof(right - 1)) if right else (),
        is_right=right < len(known),
        right=known[right] if right < len(known) else ZERO_ADDRESS,
        right_path=tuple(tree.proof(right)) if right < len(known) else _padding_path(known),
    )


def _padding_path(known: Sequence[Address]) -> tuple[bytes, ...]:
    """The path of the padding after the last contributor; empty where the tree is full."""
    if len(known) & (len(known) - 1) == 0:
        return ()
    padded = [keccak256(b"\x00" + each) for each in known] + [ZERO_HASH]
    return tuple(MerkleTree(padded).proof(len(known)))
