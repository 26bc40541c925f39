"""What is left of a gradient index after rows were withdrawn: the rows that stay, the leaves of the others.

Rules of this file:
- Rows that stay are kept as the index wrote them, one after another in its order; of one that left its leaf
  is kept, a hash. Root and sums are held to the index's own, exactly.
- What is taken out twice is the same as what is taken out once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ...protocol.attribution.differences import Gone, staying, subtract
from ...protocol.attribution.scoring import Int8s, Int64s, check_contributors, read_sums, sum_rows
from ...protocol.attribution.written_rows import Blob, row_parts
from ...protocol.content.manifests import IndexManifest
from ...protocol.encoding.merkle import MerkleTree
from ...protocol.errors import RemoteProtocolError
from ...protocol.ids import Address
from .index import leaf_of


@dataclass(frozen=True, slots=True)
class Remainder:
    """`gone`: rows that left; `kept`: the bytes of those that stay."""

    gone: Gone
    kept: Blob


def take_out(manifest: IndexManifest, before: Remainder, positions: Collection[int]) -> Remainder:
    """The remainder without these rows, too. Raises RemoteProtocolError where it is not of that index."""
    check_kept(manifest, before)
    size, gone, kept = manifest.row_bytes, dict(before.gone), bytearray()
    taken = set(positions)
    for number, position in enumerate(staying(manifest, before.gone)):
        row = before.kept[number * size : (number + 1) * size]
        if position in taken:
            gone[position] = leaf_of(manifest.row_hashes[position], row)
        else:
            kept += row
    return Remainder({position: gone[position] for position in sorted(gone)}, bytes(kept))


def taken_sums(manifest: IndexManifest, remainder: Remainder, sums: Blob) -> dict[Address, Int64s]:
    """What left of each contributor who lost rows: its sum in the index less that of its rows that stay."""
    owners = manifest.owners
    lost = {owners[position] for position in remainder.gone}
    stays = staying_sums(manifest, remainder)
    before = _before(manifest, sums)
    return {payee: before[payee] - stays[payee] for payee in sorted(lost)}


def staying_sums(manifest: IndexManifest, remainder: Remainder) -> dict[Address, Int64s]:
    """The exact sum of each contributor's rows that stay."""
    totals = {payee: np.zeros(manifest.width, np.int64) for payee in manifest.payees}
    owners = manifest.owners
    stays = [owners[position] for position in staying(manifest, remainder.gone)]
    ends = [at for at in range(len(stays) + 1) if at in (0, len(stays)) or stays[at] != stays[at - 1]]
    size = manifest.row_bytes
    for start, end in pairwise(ends):
        for rows in row_parts(remainder.kept, manifest.width, start * size, end * size):
            totals[stays[start]] += sum_rows(rows)
    return totals


def check_remainder(
    manifest: IndexManifest, remainder: Remainder, sums: Blob, taken: Mapping[Address, Int64s]
) -> None:
    """Raises RemoteProtocolError unless rows that stay and leaves of the others make the index's root, and
    the sum of everybody who lost rows, less what left of it, is exactly that of its rows that stay."""
    check_kept(manifest, remainder)
    if _root(manifest, remainder) != manifest.rows_root:
        raise RemoteProtocolError("what is left of the index is not what its root commits")
    owners = manifest.owners
    if taken.keys() != {owners[position] for position in remainder.gone}:
        raise RemoteProtocolError("the difference is not of those whose rows left")
    before = {payee: total for payee, total in _before(manifest, sums).items() if payee in taken}
    _compare(subtract(before, taken), staying_sums(manifest, remainder), " less the difference")


def check_staying(manifest: IndexManifest, remainder: Remainder, sums: Blob) -> None:
    """Raises RemoteProtocolError unless the sum of everybody who lost no row is exactly that of its rows."""
    owners = manifest.owners
    lost = {owners[position] for position in remainder.gone}
    whole = {payee: total for payee, total in _before(manifest, sums).items() if payee not in lost}
    _compare(whole, staying_sums(manifest, remainder), "")


def _before(manifest: IndexManifest, sums: Blob) -> dict[Address, Int64s]:
    vectors = zip(manifest.payees, read_sums(manifest, sums), strict=True)
    return {payee: total.astype(np.int64) for payee, total in vectors}


def _compare(stated: Mapping[Address, Int64s], added: Mapping[Address, Int64s], less: str) -> None:
    for payee, total in stated.items():
        if not np.array_equal(total, added[payee]):
            raise RemoteProtocolError(
                f"the sum of 0x{payee.hex()} in the index{less} is not that of its rows that stay"
            )


def check_kept(manifest: IndexManifest, remainder: Remainder) -> None:
    """Raises RemoteProtocolError unless the rows that stay are as many as they must be."""
    check_contributors(manifest)
    left = manifest.row_count - len(remainder.gone)
    if len(manifest.row_hashes) != manifest.row_count or len(remainder.kept) != left * manifest.row_bytes:
        raise RemoteProtocolError(
            f"{len(remainder.kept)} bytes of the {left} rows that are left of an index of "
            f"{manifest.row_count}"
        )


def row_at(manifest: IndexManifest, remainder: Remainder, position: int) -> bytes | None:
    """A row as the index wrote it, None where it left. The remainder was checked."""
    if position in remainder.gone:
        return None
    number = position - sum(1 for other in remainder.gone if other < position)
    size = manifest.row_bytes
    return remainder.kept[number * size : (number + 1) * size]


def score_staying(manifest: IndexManifest, remainder: Remainder, query: Int8s) -> tuple[list[int], Int64s]:
    """The rows that stay, by position, and the inner product of each with a query. Raises
    RemoteProtocolError."""
    check_kept(manifest, remainder)
    positions = list(staying(manifest, remainder.gone))
    wide = query.astype(np.float64)  # sums stay below 2^53
    parts = [rows.astype(np.float64) @ wide for rows in row_parts(remainder.kept, manifest.width)]
    return positions, np.concatenate(parts or [np.zeros(0)]).astype(np.int64)


def _root(manifest: IndexManifest, remainder: Remainder) -> bytes:
    size, leaves, number = manifest.row_bytes, list[bytes](), 0
    for position, digest in enumerate(manifest.row_hashes):
        gone = remainder.gone.get(position)
        if gone is None:
            leaves.append(leaf_of(digest, remainder.kept[number * size : (number + 1) * size]))
            number += 1
        else:
            leaves.append(gone)
    return MerkleTree(leaves).root
