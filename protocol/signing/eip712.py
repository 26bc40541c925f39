"""EIP-712 of wire records: what is signed here is what Solidity's `_hashTypedDataV4` hashes there.

https://eips.ethereum.org/EIPS/eip-712. The domain is name "Commonlore", version "1", the chain's id and the
Escrow's address. A record's type is its class name with its fields in camelCase; `fields` says which Solidity
type each has. A CID is the bytes32 of its sha2-256 digest. `T | None` has no Solidity type: a record that has
one cannot be signed here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, assert_never, cast

from ..encoding.shapes import (
    AddressShape,
    BoolShape,
    BytesShape,
    CidShape,
    EnumShape,
    OptionalShape,
    PeerIdShape,
    Record,
    RecordShape,
    Shape,
    TextShape,
    TupleShape,
    UintShape,
    shapes_of,
)
from ..errors import InvalidSignature, LocalProtocolError, RemoteProtocolError
from ..ids import Address, digest_of, keccak256
from .keys import AccountKey, recover

NAME = "Commonlore"
VERSION = "1"
_DOMAIN_TYPE = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"


@dataclass(frozen=True, slots=True)
class Domain:
    """Which deployment a signature is for: the chain and its Escrow contract."""

    chain_id: int
    escrow: Address

    @property
    def separator(self) -> bytes:
        """The 32-byte domain separator."""
        return _separator(self.chain_id, self.escrow)


@lru_cache(64)
def _separator(chain_id: int, escrow: Address) -> bytes:
    fields = (keccak256(_DOMAIN_TYPE), keccak256(NAME.encode()), keccak256(VERSION.encode()))
    return keccak256(b"".join(fields) + chain_id.to_bytes(32, "big") + bytes(12) + escrow)


@cache
def type_string(cls: type[Record]) -> str:
    """EIP-712 `encodeType`: the record's own type, then those it refers to, sorted by name.

    Raises TypeError.
    """
    nested = {record.__name__: record for record in _nested(cls) if record is not cls}
    return "".join(_own_type(record) for record in (cls, *(nested[name] for name in sorted(nested))))


@cache
def type_hash(cls: type[Record]) -> bytes:
    """keccak256 of the type string."""
    return keccak256(type_string(cls).encode())


def struct_hash(record: Record) -> bytes:
    """EIP-712 `hashStruct`, 32 bytes. Raises LocalProtocolError where a field does not fit its type."""
    return _hasher(type(record))(record)


def digest(domain: Domain, record: Record) -> bytes:
    """The 32 bytes that are signed: keccak256(0x1901 ‖ domain separator ‖ struct hash).

    Raises LocalProtocolError.
    """
    return keccak256(b"\x19\x01" + _separator(domain.chain_id, domain.escrow) + struct_hash(record))


def sign(domain: Domain, key: AccountKey, record: Record) -> bytes:
    """The 65-byte signature of a record. Raises LocalProtocolError."""
    return key.sign_digest(digest(domain, record))


def recover_signer(domain: Domain, record: Record, signature: bytes) -> Address:
    """The account that signed a record. Raises InvalidSignature."""
    return recover(digest(domain, record), signature)


def require_signer(domain: Domain, record: Record, signature: bytes, signer: Address) -> None:
    """Raises InvalidSignature unless `signer` signed this record for this deployment."""
    if recover_signer(domain, record, signature) != signer:
        name = type(record).__name__
        raise InvalidSignature(f"{name} is not signed by 0x{signer.hex()} for chain {domain.chain_id}")


# ---- types


def camel_case(name: str) -> str:
    """`not_before` → `notBefore`."""
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def _own_type(cls: type[Record]) -> str:
    fields = (f"{_solidity(shape)} {camel_case(name)}" for name, shape in shapes_of(cls))
    return f"{cls.__name__}({','.join(fields)})"


def _solidity(shape: Shape) -> str:
    match shape:
        case BoolShape():
            return "bool"
        case UintShape(bits):
            return f"uint{bits}"
        case EnumShape():
            return "uint8"
        case AddressShape():
            return "address"
        case CidShape():
            return "bytes32"
        case BytesShape(low, high):
            return f"bytes{high}" if _is_word(low, high) else "bytes"
        case TextShape() | PeerIdShape():
            return "string"
        case RecordShape(cls):
            return cls.__name__
        case TupleShape(inner):
            return f"{_solidity(inner)}[]"
        case OptionalShape():
            raise TypeError("a field that may be None has no EIP-712 type")
        case _:
            assert_never(shape)


def _is_word(low: int, high: int) -> bool:
    return 0 < low == high <= 32


def _nested(cls: type[Record]) -> set[type[Record]]:
    found = {cls}
    for _, shape in shapes_of(cls):
        while isinstance(shape, TupleShape):
            shape = shape.inner
        if isinstance(shape, RecordShape):
            found |= _nested(shape.cls)
    return found


# ---- values, compiled once per class

_Encoder = Callable[[Any], bytes]


@cache
def _hasher(cls: type[Record]) -> _Encoder:
    head = type_hash(cls)
    steps = [(name, _encoder(shape)) for name, shape in shapes_of(cls)]

    def hash_record(record: object) -> bytes:
        if type(record) is not cls:
            raise LocalProtocolError(f"{type(record).__name__} where {cls.__name__} belongs")
        name = ""
        try:
            parts = [head]
            for name, step in steps:
                parts.append(step(getattr(record, name)))
        except (TypeError, ValueError, OverflowError, AttributeError, RemoteProtocolError) as wrong:
            raise LocalProtocolError(f"cannot hash {cls.__name__}.{name}: {wrong}") from None
        return keccak256(b"".join(parts))

    return hash_record


def _encoder(shape: Shape) -> _Encoder:
    """EIP-712 `encodeData` of one field: a function to 32 bytes."""
    match shape:
        case BoolShape():
            return lambda value: int(value).to_bytes(32, "big")
        case UintShape(bits):
            return _uint_word(bits)
        case EnumShape():
            return _uint_word(8)
        case AddressShape():
            return _address_word
        case CidShape():
            return _digest_of
        case BytesShape(low, high):
            return _bytes_word(high) if _is_word(low, high) else keccak256
        case TextShape() | PeerIdShape():
            return lambda value: keccak256(value.encode())
        case RecordShape(cls):
            return _hasher(cls)
        case TupleShape(inner):
            return _array_word(_encoder(inner))
        case OptionalShape():
            raise TypeError("a field that may be None has no EIP-712 type")
        case _:
            assert_never(shape)


def _uint_word(bits: int) -> _Encoder:
    padding, width = bytes(32 - bits // 8), bits // 8

    def word(value: int) -> bytes:
        return padding + value.to_bytes(width, "big")

    return word


def _bytes_word(size: int) -> _Encoder:
    padding = bytes(32 - size)

    def word(value: bytes) -> bytes:
        if len(value) != size:
            raise ValueError(f"{len(value)} bytes; exactly {size} are allowed")
        return value + padding

    return word


def _address_word(value: bytes) -> bytes:
    if len(value) != 20:
        raise ValueError(f"{len(value)} bytes; an account has 20")
    return bytes(12) + value


def _array_word(step: _Encoder) -> _Encoder:
    return lambda items: keccak256(b"".join([step(item) for item in cast(tuple[object, ...], items)]))


# The same few ids come in every request and receipt.
_digest_of = lru_cache(4096)(digest_of)
