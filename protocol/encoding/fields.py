"""The types that fields of wire records may have.

One annotation serves CBOR's checks (`codec`) and EIP-712's types (`eip712`).

Records are frozen dataclasses whose fields are: `bool`, the integers below, `Cid`, `PeerId`, `Address`,
`Text`s, `Blob`s and fixed-size bytes below, another record, `T | None`, or `tuple[T, ...]`. There are no
floats and no free dictionaries on the wire. EIP-712 names: `Uint(n)` uintN, `Cid` bytes32 (its digest), fixed
bytes bytesN, `Text` string, `Blob` bytes, `Address` address, a record a struct (field names in camelCase), a
tuple an array.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

PPM = 1_000_000
"""Fractions travel as whole parts per million."""


@dataclass(frozen=True, slots=True)
class Uint:
    """An unsigned integer of `bits` bits."""

    bits: int


@dataclass(frozen=True, slots=True)
class Size:
    """Length bounds, inclusive: bytes of a byte string, UTF-8 bytes of a text, items of a tuple."""

    low: int
    high: int


U8 = Annotated[int, Uint(8)]
U16 = Annotated[int, Uint(16)]
U32 = Annotated[int, Uint(32)]
U64 = Annotated[int, Uint(64)]
U128 = Annotated[int, Uint(128)]

Bytes16 = Annotated[bytes, Size(16, 16)]
Hash32 = Annotated[bytes, Size(32, 32)]
Key32 = Annotated[bytes, Size(32, 32)]
Signature64 = Annotated[bytes, Size(64, 64)]
"""Ed25519."""
Signature65 = Annotated[bytes, Size(65, 65)]
"""secp256k1: r ‖ s ‖ v with v 27 or 28 and s in the lower half, as OpenZeppelin's ECDSA expects."""

Name = Annotated[str, Size(1, 64)]
Label = Annotated[str, Size(0, 256)]
Text = Annotated[str, Size(0, 65_536)]
Blob = Annotated[bytes, Size(0, 1_048_576)]
"""Binary content inside one message; anything larger goes by content id."""
