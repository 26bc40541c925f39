"""Names: content ids (CIDv1, sha2-256), peer ids, addresses.

Values of these types are always well-formed: build them here.

Content of at most one chunk is named by the CID of its bytes (codec `raw`); larger content by the CID of its
`BlobManifest` (codec `dag-cbor`). Text form is lower-case base32 (multibase `b`), the CIDv1 default:
https://github.com/multiformats/cid
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from functools import lru_cache
from typing import NewType, cast

import sha3  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]  # it ships no types

from .errors import RemoteProtocolError

Cid = NewType("Cid", str)
"""CIDv1 text: codec raw or dag-cbor, sha2-256, base32 lower case without padding (59 characters)."""
PeerId = NewType("PeerId", str)
"""libp2p peer id of an Ed25519 key: base58btc of the identity multihash of its protobuf."""
Address = NewType("Address", bytes)
"""EVM account: the 20 raw bytes."""
RequestId = NewType("RequestId", bytes)
"""16 random bytes, chosen by the client."""
ReceiptId = NewType("ReceiptId", bytes)
"""32 bytes: keccak256(payer ‖ lane ‖ seq as uint64)."""

CHUNK_SIZE = 262_144
"""Bytes of content that one digest names at most."""

RAW = 0x55
DAG_CBOR = 0x71
ZERO_ADDRESS = Address(bytes(20))
_CODECS = (RAW, DAG_CBOR)
_PEER_ID_PREFIX = b"\x00\x24\x08\x01\x12\x20"
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def keccak256(data: bytes) -> bytes:
    """The EVM's hash (Keccak, not NIST SHA-3)."""
    return cast(bytes, sha3.keccak_256(data).digest())  # pyright: ignore[reportUnknownMemberType]


def cid_of_digest(digest: bytes, codec: int) -> Cid:
    """The CID that names content with this sha2-256 digest (32 bytes)."""
    binary = bytes((1, codec, 0x12, 0x20)) + digest
    return Cid("b" + base64.b32encode(binary).decode().lower().rstrip("="))


def cid_of(data: bytes, codec: int = RAW) -> Cid:
    """The CID of these very bytes."""
    return cid_of_digest(hashlib.sha256(data).digest(), codec)


def parse_cid(text: str) -> tuple[int, bytes]:
    """(codec, sha2-256 digest) of a CID's text.

    Raises RemoteProtocolError unless it is in the one form this network writes.
    """
    try:
        binary = base64.b32decode(text[1:].upper() + "=" * (-(len(text) - 1) % 8))
    except (binascii.Error, ValueError):
        binary = b""
    if len(binary) != 36 or binary[0] != 1 or binary[1] not in _CODECS or binary[2:4] != b"\x12\x20":
        raise RemoteProtocolError(f"not a content id: {text[:80]!r}; expected a CIDv1 such as bafkrei…")
    if cid_of_digest(binary[4:], binary[1]) != text:
        raise RemoteProtocolError(f"not a canonical content id: {text[:80]!r}")
    return binary[1], binary[4:]


def to_cid(text: str) -> Cid:
    """`text` as a Cid, checked. Raises RemoteProtocolError."""
    parse_cid(text)
    return Cid(text)


def digest_of(cid: Cid) -> bytes:
    """The 32-byte sha2-256 digest inside a CID: how the chain names the same content."""
    return parse_cid(cid)[1]


def cid_to_bytes(cid: Cid) -> bytes:
    """The 36 binary bytes of a CID: how CBOR carries it.

    Raises RemoteProtocolError on a text that is no CID.
    """
    codec, digest = parse_cid(cid)
    return bytes((1, codec, 0x12, 0x20)) + digest


def cid_from_bytes(binary: bytes) -> Cid:
    """The CID of its 36 binary bytes. Raises RemoteProtocolError."""
    if len(binary) != 36 or binary[0] != 1 or binary[1] not in _CODECS or binary[2:4] != b"\x12\x20":
        raise RemoteProtocolError(f"not a binary content id: {binary[:40].hex()}")
    return cid_of_digest(binary[4:], binary[1])


def peer_id_of(public_key: bytes) -> PeerId:
    """The libp2p peer id of a 32-byte Ed25519 public key
    (https://github.com/libp2p/specs/blob/master/peer-ids).
    """
    raw = _PEER_ID_PREFIX + public_key
    number = int.from_bytes(raw, "big")
    text = ""
    while number:
        number, digit = divmod(number, 58)
        text = _BASE58[digit] + text
    return PeerId("1" * (len(raw) - len(raw.lstrip(b"\x00"))) + text)


def public_key_of(peer_id: str) -> bytes:
    """The 32-byte Ed25519 public key inside a peer id.

    Raises RemoteProtocolError unless `peer_id_of` gives it back.
    """
    number = 0
    if len(peer_id) <= 64 and all(letter in _BASE58 for letter in peer_id):
        for letter in peer_id:
            number = number * 58 + _BASE58.index(letter)
    public_key = (number & (1 << 256) - 1).to_bytes(32, "big")
    if peer_id_of(public_key) != peer_id:
        raise RemoteProtocolError(f"not the peer id of an Ed25519 key: {peer_id[:80]!r}; expected 12D3KooW…")
    return public_key


@lru_cache(maxsize=4096)
def checksummed(address: Address) -> str:
    """EIP-55 text of an address."""
    plain = address.hex()
    digest = keccak256(plain.encode()).hex()
    return "0x" + "".join(c.upper() if int(h, 16) >= 8 else c for c, h in zip(plain, digest, strict=False))


def to_address(text: str) -> Address:
    """The address in hexadecimal text (`0x` optional). Raises RemoteProtocolError."""
    try:
        raw = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raw = b""
    if len(raw) != 20:
        raise RemoteProtocolError(
            f"not an account address: {text[:80]!r}; expected 0x and 40 hexadecimal digits"
        )
    return Address(raw)


def receipt_id_of(payer: Address, lane: Address, seq: int) -> ReceiptId:
    """The one name of the receipt that voucher `seq` of the channel (payer, lane) pays."""
    return ReceiptId(keccak256(payer + lane + seq.to_bytes(8, "big")))
