"""Rows of a Datanet, their leaves and roots, and the shard that a contributor signs.

Rules of this file:
- row hash = keccak(0x00 ‖ canonical CBOR of the row): the row's own salt keeps a short text from being
  guessed. rows root = the plain Merkle root of the row hashes in the shard's order.
- `ShardHeader.rows` names the canonical CBOR list of the rows (see `blob_names`).
- The contributor's Ed25519 key signs the header's encoding under `commonlore/shard/1`, the payee signs its
  EIP-712 digest.
- The shards of a Datanet version stand in the order in which they were committed to: those that it keeps of
  the version before, in their order, then new ones. A shard joins by its header, which commits its salted
  rows; the rows themselves may be shown later.
- contributors root = the plain Merkle root of keccak(0x00 ‖ account) of the distinct payees, ascending.
  Whatever is wrong with a shard is InvalidShard: the shard is refused, the rest goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..encoding.codec import decode_all, encode, encode_all
from ..encoding.merkle import MerkleTree
from ..errors import InvalidShard, InvalidSignature, LocalProtocolError, ProtocolError
from ..ids import Address, Cid, keccak256
from ..signing.eip712 import Domain, digest, require_signer
from ..signing.keys import AccountKey, PeerKey, verify_ed25519
from .blob_names import describe_blob
from .manifests import MAX_ROW_BYTES, MAX_ROWS_PER_SHARD, MAX_SHARD_BYTES, Row, Shard, ShardHeader

SHARD_DOMAIN = "commonlore/shard/1"


def row_hash(row: Row) -> bytes:
    """A row's leaf, 32 bytes. Raises LocalProtocolError where it cannot be encoded."""
    return keccak256(b"\x00" + encode(row))


def rows_root(rows: Sequence[Row]) -> bytes:
    """The Merkle root (32 bytes) of the rows in their order."""
    return MerkleTree(row_hash(row) for row in rows).root


def encode_rows(rows: Sequence[Row]) -> bytes:
    """The bytes that `ShardHeader.rows` names."""
    return encode_all(rows)


def decode_rows(data: bytes) -> tuple[Row, ...]:
    """The rows in these bytes. Raises InvalidShard."""
    try:
        return decode_all(Row, data, MAX_SHARD_BYTES)
    except ProtocolError as wrong:
        raise InvalidShard(f"the rows cannot be read: {wrong}") from None


def rows_cid(rows: Sequence[Row]) -> Cid:
    """The name of the encoded rows."""
    return describe_blob([encode_rows(rows)])[0]


def contributors_root(payees: Iterable[Address]) -> bytes:
    """The root (32 bytes) of the distinct payees of a Datanet version, ascending."""
    return MerkleTree(keccak256(b"\x00" + payee) for payee in sorted(set(payees))).root


def keeps_order(before: Sequence[Cid], after: Sequence[Cid]) -> bool:
    """Whether a version's shards begin with those it keeps of the version before, in their order."""
    staying = set(after)
    kept = tuple(shard for shard in before if shard in staying)
    return tuple(after[: len(kept)]) == kept


def sign_shard(domain: Domain, header: ShardHeader, peer_key: PeerKey, payee_key: AccountKey) -> Shard:
    """The header with both signatures. Raises LocalProtocolError where it names other keys."""
    if header.ed25519_key != peer_key.public or header.payee != payee_key.address:
        raise LocalProtocolError("a shard is signed by the very keys that its header names")
    signature = peer_key.sign(SHARD_DOMAIN, encode(header))
    return Shard(header, signature, payee_key.sign_digest(digest(domain, header)))


def check_shard(domain: Domain, shard: Shard, rows: Sequence[Row] | None) -> None:
    """Raises InvalidShard unless both signatures are its own and, where `rows` are given, they are what it
    commits.
    """
    header = shard.header
    try:
        verify_ed25519(header.ed25519_key, SHARD_DOMAIN, encode(header), shard.ed25519_signature)
        require_signer(domain, header, shard.payee_signature, header.payee)
    except InvalidSignature as wrong:
        raise InvalidShard(f"shard of {header.contributor!r}: {wrong}") from None
    if not 1 <= header.row_count <= MAX_ROWS_PER_SHARD:
        raise InvalidShard(
            f"shard of {header.contributor!r}: {header.row_count} rows; 1 to {MAX_ROWS_PER_SHARD} are allowed"
        )
    if rows is not None:
        _check_rows(header, rows)


def check_row(row: Row) -> None:
    """Raises InvalidShard where a row is empty, not Unicode or larger than MAX_ROW_BYTES."""
    if not row.question or not row.answer:
        raise InvalidShard("a row without a question or without an answer")
    try:
        size = len(encode(row))
    except ProtocolError as wrong:
        raise InvalidShard(str(wrong)) from None
    if size > MAX_ROW_BYTES:
        raise InvalidShard(f"a row of {size} bytes; at most {MAX_ROW_BYTES} are allowed: split it")


def _check_rows(header: ShardHeader, rows: Sequence[Row]) -> None:
    whose = f"shard of {header.contributor!r}"
    if len(rows) != header.row_count:
        raise InvalidShard(f"{whose}: {len(rows)} rows; its header says {header.row_count}")
    for number, row in enumerate(rows, 1):
        try:
            check_row(row)
        except InvalidShard as wrong:
            raise InvalidShard(f"{whose}, row {number}: {wrong}") from None
    leaves = [row_hash(row) for row in rows]
    if len(set(leaves)) != len(leaves):
        raise InvalidShard(f"{whose}: the same row twice")
    if MerkleTree(leaves).root != header.rows_root:
        raise InvalidShard(f"{whose}: the rows are not those that its root commits")
    data = encode_rows(rows)
    if len(data) > MAX_SHARD_BYTES:
        raise InvalidShard(f"{whose}: {len(data)} bytes of rows; at most {MAX_SHARD_BYTES} are allowed")
    if describe_blob([data])[0] != header.rows:
        raise InvalidShard(f"{whose}: the rows are not those that {header.rows} names")
