"""Index differences: what withdrawals took out of a gradient index, so that its sums stay provable without
the vectors that left.

Rules of this file:
- A row leaves an index where its hash is one of a withdrawn shard and its account is that of the shard's
  contributor. Which hashes a shard has, its contributor signed: in their order they make its rows root.
- `gone` names the rows that left: of each its position in the index, four bytes big-endian, ascending, and
  its leaf in the index's rows root. With these leaves and the rows that stay, the root can still be made.
- `sums` names the exact sum of what left of each of `contributors`, `width` little-endian int32 each. A
  contributor's sum in the index less this is the sum of its rows that stay, exactly.
- A difference covers all withdrawals up to then: a later one of the same index takes the place of an earlier.
- Whoever holds the rows can make it and gets the same blobs; whoever checks it asks nobody. What came from
  elsewhere is looked at in this order: its size, its depth and types (the codec), its seal, whether it is of
  its time.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from ..content.manifests import IndexedContributor, IndexManifest, ShardHeader
from ..encoding.fields import U64, Size
from ..encoding.merkle import MerkleTree
from ..errors import LocalProtocolError, RemoteProtocolError
from ..gossip.adverts import MAX_CLOCK_SKEW_MS
from ..ids import CHUNK_SIZE, Address, Cid
from ..signing.envelope import Sealed, open_sealed
from .scoring import MAX_MAGNITUDE, Int64s

MAX_DIFFERENCE_BYTES = CHUNK_SIZE
MAX_SHARDS = 1_024
_GONE = struct.Struct(">I32s")
_HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class OpenedShard:
    """A withdrawn shard, and the CID of its row hashes: 32 bytes each, in its order."""

    shard: Cid
    rows: Cid


@dataclass(frozen=True, slots=True)
class IndexDifference:
    """What the withdrawals of `shards` took out of the sealed index that `index` names. `kept` is the CID of
    the rows that stay, as the index wrote them, None where none does. `contributors` are those whose rows
    left, ascending, with how many. Unix milliseconds.
    """

    adapter: Cid
    index: Cid
    shards: Annotated[tuple[OpenedShard, ...], Size(1, MAX_SHARDS)]
    gone: Cid
    kept: Cid | None
    sums: Cid
    contributors: Annotated[tuple[IndexedContributor, ...], Size(1, 4096)]
    issued_ms: U64

    @property
    def row_count(self) -> int:
        """How many rows left."""
        return sum(each.row_count for each in self.contributors)


Gone = Mapping[int, bytes]
"""Rows that left: their leaves by their positions."""


def open_difference(raw: bytes, now_ms: int) -> Sealed[IndexDifference]:
    """Raises RemoteProtocolError, InvalidSignature."""
    sealed = open_sealed(raw, (IndexDifference,), MAX_DIFFERENCE_BYTES)
    if sealed.record.issued_ms > now_ms + MAX_CLOCK_SKEW_MS:
        raise RemoteProtocolError("an index difference of a time that is still to come")
    return sealed


def write_hashes(hashes: Iterable[bytes]) -> bytes:
    """A shard's row hashes as `OpenedShard.rows` names them."""
    return b"".join(hashes)


def read_hashes(header: ShardHeader, blob: bytes) -> tuple[bytes, ...]:
    """A shard's row hashes. Raises RemoteProtocolError unless they are those that its contributor signed."""
    if len(blob) != header.row_count * _HASH_BYTES:
        raise RemoteProtocolError(f"{len(blob)} bytes of row hashes; the shard has {header.row_count} rows")
    hashes = tuple(blob[at : at + _HASH_BYTES] for at in range(0, len(blob), _HASH_BYTES))
    if MerkleTree(hashes).root != header.rows_root:
        raise RemoteProtocolError("the row hashes are not those of the withdrawn shard")
    return hashes


def leaving(index: IndexManifest, withdrawn: Iterable[tuple[Address, Collection[bytes]]]) -> list[int]:
    """The positions of an index's rows that leave, ascending: of the row hashes of each withdrawn shard, by
    its contributor's account."""
    hashes: dict[Address, set[bytes]] = {}
    for payee, own in withdrawn:
        hashes.setdefault(payee, set()).update(own)
    rows = enumerate(zip(index.owners, index.row_hashes, strict=True))
    return [position for position, (owner, digest) in rows if digest in hashes.get(owner, ())]


def counts_of(index: IndexManifest, positions: Iterable[int]) -> tuple[IndexedContributor, ...]:
    """Whose rows these are, and how many, ascending."""
    owners = index.owners
    counts = Counter(owners[position] for position in positions)
    return tuple(IndexedContributor(payee, counts[payee]) for payee in sorted(counts))


def write_gone(gone: Gone) -> bytes:
    """The blob that `IndexDifference.gone` names."""
    return b"".join(_GONE.pack(position, gone[position]) for position in sorted(gone))


def read_gone(blob: bytes, index: IndexManifest) -> dict[int, bytes]:
    """The rows that left. Raises RemoteProtocolError unless positions ascend within the index."""
    if not blob or len(blob) % _GONE.size or len(blob) > index.row_count * _GONE.size:
        raise RemoteProtocolError(f"{len(blob)} bytes of rows that left an index of {index.row_count}")
    gone = dict(_GONE.iter_unpack(blob))
    positions = list(gone)
    if len(gone) * _GONE.size != len(blob) or positions != sorted(gone) or positions[-1] >= index.row_count:
        raise RemoteProtocolError("rows that left an index must stand in its order, each once")
    return gone


def gone_bytes(count: int) -> int:
    """How large the blob of so many rows that left is."""
    return count * _GONE.size


def check_gone(
    difference: IndexDifference,
    index: IndexManifest,
    gone: Gone,
    withdrawn: Iterable[tuple[Address, Collection[bytes]]],
) -> None:
    """Raises RemoteProtocolError unless just the withdrawn shards' rows left, and are counted as such."""
    if difference.adapter != index.adapter:
        raise RemoteProtocolError("the index difference is of another adapter's index")
    if list(gone) != leaving(index, withdrawn):
        raise RemoteProtocolError("the rows that left the index are not those of the withdrawn shards")
    if counts_of(index, gone) != difference.contributors:
        raise RemoteProtocolError("the rows that left the index are not counted as their contributors'")


def write_differences(sums: Iterable[Int64s]) -> bytes:
    """The blob that `IndexDifference.sums` names, of each contributor's sum of what left."""
    return b"".join(vector.astype("<i4").tobytes() for vector in sums)


def read_differences(difference: IndexDifference, index: IndexManifest, blob: bytes) -> dict[Address, Int64s]:
    """What left, by account. Raises RemoteProtocolError on another size and on impossible sums."""
    if len(blob) != differences_bytes(difference, index):
        raise RemoteProtocolError(
            f"{len(blob)} bytes of differences for {len(difference.contributors)} contributors"
        )
    vectors: npt.NDArray[np.int32] = np.frombuffer(blob, "<i4").reshape(-1, index.width)
    found: dict[Address, Int64s] = {}
    for each, vector in zip(difference.contributors, vectors, strict=True):
        if int(np.abs(vector.astype(np.int64)).max()) > MAX_MAGNITUDE * each.row_count:
            raise RemoteProtocolError(
                f"{each.row_count} rows cannot have the difference of 0x{each.payee.hex()}"
            )
        found[each.payee] = vector.astype(np.int64)
    return found


def differences_bytes(difference: IndexDifference, index: IndexManifest) -> int:
    """How large the blob of its sums is."""
    return 4 * index.width * len(difference.contributors)


def subtract(sums: Mapping[Address, Int64s], taken: Mapping[Address, Int64s]) -> dict[Address, Int64s]:
    """Each account's sum without what left of it; zeros are those of contributors who have no row any more.

    Raises LocalProtocolError where something left of an account that has no sum.
    """
    if strangers := taken.keys() - sums.keys():
        raise LocalProtocolError(f"a difference of {len(strangers)} accounts that the index does not have")
    return {payee: total - taken[payee] if payee in taken else total for payee, total in sums.items()}


def staying(index: IndexManifest, gone: Gone) -> Iterator[int]:
    """The positions of the rows that stay, ascending."""
    return (position for position in range(index.row_count) if position not in gone)


def shards_named(differences: Sequence[IndexDifference]) -> set[Cid]:
    """The withdrawn shards that differences are of."""
    return {opened.shard for each in differences for opened in each.shards}
