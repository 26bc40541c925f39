"""What a field's annotation means, read once per class.

`codec` and `eip712` both compile these shapes, so that they cannot disagree.

A record whose annotations say anything else than `fields` allows is a mistake of this program: TypeError at
first use.
"""

from __future__ import annotations

import types
from dataclasses import Field, dataclass
from enum import IntEnum
from functools import cache
from typing import Annotated, Any, ClassVar, Protocol, Union, cast, get_args, get_origin, get_type_hints

from ..ids import Address, Cid, PeerId, ReceiptId, RequestId
from .fields import Size, Uint


class Record(Protocol):
    """Any wire dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


@dataclass(frozen=True, slots=True)
class BoolShape:
    """true or false."""


@dataclass(frozen=True, slots=True)
class UintShape:
    """An integer in 0 … 2^bits - 1. Wider than 64 bits, CBOR carries it as `bits / 8` big-endian bytes."""

    bits: int


@dataclass(frozen=True, slots=True)
class EnumShape:
    """One of the members of an IntEnum, as uint8."""

    cls: type[IntEnum]


@dataclass(frozen=True, slots=True)
class BytesShape:
    """A byte string of low to high bytes."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class TextShape:
    """A text of low to high UTF-8 bytes."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class AddressShape:
    """An EVM account, 20 bytes."""


@dataclass(frozen=True, slots=True)
class CidShape:
    """A content id; CBOR carries its 36 binary bytes."""


@dataclass(frozen=True, slots=True)
class PeerIdShape:
    """The peer id of an Ed25519 key, as text."""


@dataclass(frozen=True, slots=True)
class RecordShape:
    """Another record."""

    cls: type[Record]


@dataclass(frozen=True, slots=True)
class OptionalShape:
    """The inner shape or None; in CBOR None is the absence of the field."""

    inner: Shape


@dataclass(frozen=True, slots=True)
class TupleShape:
    """low to high items of the inner shape."""

    inner: Shape
    low: int
    high: int


Shape = (
    BoolShape
    | UintShape
    | EnumShape
    | BytesShape
    | TextShape
    | AddressShape
    | CidShape
    | PeerIdShape
    | RecordShape
    | OptionalShape
    | TupleShape
)

_NAMED: dict[object, Shape] = {
    bool: BoolShape(),
    Cid: CidShape(),
    PeerId: PeerIdShape(),
    Address: AddressShape(),
    RequestId: BytesShape(16, 16),
    ReceiptId: BytesShape(32, 32),
}


@cache
def shapes_of(cls: type[Record]) -> tuple[tuple[str, Shape], ...]:
    """(field name, shape) of every field of a record class, in the order of its definition.

    Raises TypeError.
    """
    hints = get_type_hints(cls, include_extras=True)
    return tuple((name, _shape(hints[name], f"{cls.__name__}.{name}")) for name in cls.__dataclass_fields__)


def _shape(hint: Any, where: str) -> Shape:
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *marks = get_args(hint)
        return _marked(inner, marks[-1], where)
    if origin is Union or origin is types.UnionType:
        inner = [option for option in get_args(hint) if option is not type(None)]
        if len(inner) != 1:
            raise TypeError(f"{where}: {hint} is not one type or None")
        return OptionalShape(_shape(inner[0], where))
    if hint in _NAMED:
        return _NAMED[hint]
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return EnumShape(hint)
    if isinstance(hint, type) and hasattr(hint, "__dataclass_fields__"):
        return RecordShape(cast(type[Record], hint))
    raise TypeError(f"{where}: {hint} cannot travel; see protocol.fields")


def _marked(inner: Any, mark: object, where: str) -> Shape:
    match mark:
        case Uint(bits) if inner is int:
            return UintShape(bits)
        case Size(low, high) if inner is bytes:
            return BytesShape(low, high)
        case Size(low, high) if inner is str:
            return TextShape(low, high)
        case Size(low, high) if get_origin(inner) is tuple:
            return TupleShape(_shape(get_args(inner)[0], where), low, high)
        case _:
            raise TypeError(f"{where}: {inner} marked {mark} cannot travel; see protocol.fields")
