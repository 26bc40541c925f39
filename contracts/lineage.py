"""What shows that an account contributed to no Datanet of an adapter's lineage: the last two arguments of
`CreditProofs.proveOutsideLineage`, as the ABI wants them.

A Datanet version's contributors are a plain tree over their sorted accounts; a gap is two neighbours in it,
with nothing on a side beyond its end."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..protocol.errors import LocalProtocolError
from ..protocol.ids import ZERO_ADDRESS, Address, checksummed, keccak256
from ..protocol.merkle import ZERO_HASH, MerkleTree


@dataclass(frozen=True, slots=True)
class Ancestor:
    """An adapter's record with what its lineage is the hash of: record ids."""

    record_id: bytes
    datanets: tuple[bytes, ...]
    parents: tuple[bytes, ...]


def lineage_arguments(
    ancestry: Sequence[Ancestor], contributors: Mapping[bytes, Sequence[Address]], account: Address
) -> tuple[list[Any], list[Any]]:
    """The adapter's ancestry (itself first, then every record reached through parents) and the gaps.

    `contributors` are by Datanet record id. Raises LocalProtocolError where the account is one of them.
    """
    records = [(entry.record_id, list(entry.datanets), list(entry.parents)) for entry in ancestry]
    datanets = [datanet for entry in ancestry for datanet in entry.datanets]
    return records, [contributor_gap(contributors[datanet], account) for datanet in datanets]


def contributor_gap(contributors: Sequence[Address], account: Address) -> tuple[Any, ...]:
    """Where an account would stand among a Datanet version's contributors.

    Raises LocalProtocolError where it stands there, or nobody does.
    """
    known = sorted(set(contributors))
    right = bisect_left(known, account)
    if not known or account in known:
        raise LocalProtocolError(f"0x{account.hex()} leaves no gap among {len(known)} contributors")
    tree = MerkleTree(keccak256(b"\x00" + each) for each in known)
    paths = [tree.proof(index) for index in range(len(known))]
    width = 1 << len(paths[0])
    left_account, right_account = (
        checksummed(known[index] if 0 <= index < len(known) else ZERO_ADDRESS) for index in (right - 1, right)
    )
    return (
        right > 0,
        left_account,
        max(right - 1, 0),
        paths[right - 1] if right else [],
        right < len(known),
        right_account,
        paths[right] if right < len(known) else _padding_path(known, right) if right < width else [],
    )


def _padding_path(known: Sequence[Address], index: int) -> list[bytes]:
    """The path of the padding after the last contributor."""
    padded = [keccak256(b"\x00" + each) for each in known] + [ZERO_HASH]
    return MerkleTree(padded).proof(index)
