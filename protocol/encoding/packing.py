"""Shapes compiled to functions between a field's value and its plain CBOR value, once per class.

The same checks run on both ways, so what this program cannot read it cannot write either. A value that does
not fit raises Malformed with its place in the record; `codec` makes it an error of the side that made the
value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import cache, lru_cache
from typing import Any, assert_never, cast

from ..errors import ProtocolError
from ..ids import Cid, cid_from_bytes, cid_to_bytes, public_key_of
from .shapes import (
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


class Malformed(ValueError):
    """A value that does not fit its shape; becomes a ProtocolError of the side that made it."""

    def within(self, place: str) -> Malformed:
        inner = str(self)
        return Malformed(f"{place}{inner}" if inner.startswith((".", "[")) else f"{place}: {inner}")


def kind_of(value: object) -> str:
    """How an error calls a value that does not belong."""
    return "null" if value is None else type(value).__name__


_Step = Callable[[Any], Any]


@cache
def pack_record(cls: type[Record]) -> _Step:
    steps = [(name, _packer(shape), isinstance(shape, OptionalShape)) for name, shape in shapes_of(cls)]

    def pack(record: object) -> dict[str, object]:
        if type(record) is not cls:
            raise Malformed(f"{kind_of(record)} where {cls.__name__} belongs")
        packed: dict[str, object] = {}
        name = ""
        try:
            for name, step, optional in steps:
                value = getattr(record, name)
                if value is not None or not optional:
                    packed[name] = step(value)
        except Malformed as wrong:
            raise wrong.within(f".{name}") from None
        return packed

    return pack


@cache
def unpack_record(cls: type[Record]) -> _Step:
    steps = [(name, _unpacker(shape), isinstance(shape, OptionalShape)) for name, shape in shapes_of(cls)]

    def unpack(raw: object) -> object:
        if type(raw) is not dict:
            raise Malformed(f"{kind_of(raw)} where {cls.__name__} belongs")
        left = cast(dict[object, object], raw)
        values: list[object] = []
        name = ""
        try:
            for name, step, optional in steps:
                if name in left:
                    values.append(step(left.pop(name)))
                elif optional:
                    values.append(None)
                else:
                    raise Malformed("missing")
        except Malformed as wrong:
            raise wrong.within(f".{name}") from None
        if left:
            raise Malformed(f"unknown field {str(next(iter(left)))[:64]!r}")
        return cls(*values)

    return unpack


def _packer(shape: Shape) -> _Step:
    match shape:
        case OptionalShape(inner):
            return _packer(inner)
        case RecordShape(cls):
            return lambda value: pack_record(cls)(value)
        case TupleShape(inner, low, high):
            return _each(_packer(inner), low, high, tuple, list)
        case UintShape(bits) if bits > 64:
            check, width = _checker(shape), bits // 8
            return lambda value: check(value).to_bytes(width, "big")
        case CidShape():
            return _pack_cid
        case _:
            return _checker(shape)


def _unpacker(shape: Shape) -> _Step:
    match shape:
        case OptionalShape(inner):
            return _unpacker(inner)
        case RecordShape(cls):
            return lambda value: unpack_record(cls)(value)
        case TupleShape(inner, low, high):
            return _each(_unpacker(inner), low, high, list, tuple)
        case UintShape(bits) if bits > 64:
            check = _check_bytes(bits // 8, bits // 8)
            return lambda value: int.from_bytes(check(value), "big")
        case EnumShape(cls):
            return lambda value: cls(_check_enum(cls)(value))
        case CidShape():
            return _unpack_cid
        case _:
            return _checker(shape)


def _checker(shape: Shape) -> _Step:
    """The function that returns a field's plain value, or raises Malformed. The same on both ways."""
    match shape:
        case BoolShape():
            return _check_bool
        case UintShape(bits):
            return _check_uint(bits)
        case EnumShape(cls):
            return _check_enum(cls)
        case BytesShape(low, high):
            return _check_bytes(low, high)
        case TextShape(low, high):
            return _check_text(low, high)
        case AddressShape():
            return _check_bytes(20, 20)
        case PeerIdShape():
            return _check_peer_id
        case CidShape() | RecordShape() | OptionalShape() | TupleShape():
            raise TypeError(f"{shape} is not plain")
        case _:
            assert_never(shape)


def _each(step: _Step, low: int, high: int, kind: type, build: Callable[[Any], Any]) -> _Step:
    def each(items: object) -> object:
        if type(items) is not kind:
            raise Malformed(f"{kind_of(items)} where a {kind.__name__} belongs")
        sequence = cast(Sequence[object], items)
        if not low <= len(sequence) <= high:
            raise Malformed(f"{len(sequence)} items; {low} to {high} are allowed")
        index = 0
        try:
            done: list[object] = []
            for index, item in enumerate(sequence):  # noqa: B007 - the error names it
                done.append(step(item))
        except Malformed as wrong:
            raise wrong.within(f"[{index}]") from None
        return build(done)

    return each


def _check_bool(value: object) -> bool:
    if type(value) is not bool:
        raise Malformed(f"{kind_of(value)} where true or false belongs")
    return value


def _check_uint(bits: int) -> Callable[[object], int]:
    limit = 1 << bits

    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < limit:
            shown = value if isinstance(value, int) else kind_of(value)
            raise Malformed(f"{str(shown)[:40]} is not a uint{bits}")
        return int(value)

    return check


def _check_enum(cls: type[IntEnum]) -> Callable[[object], int]:
    members = frozenset(int(member) for member in cls)

    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value not in members:
            raise Malformed(f"{str(value)[:40]} is not a {cls.__name__}")
        return int(value)

    return check


def _check_bytes(low: int, high: int) -> Callable[[object], bytes]:
    def check(value: object) -> bytes:
        if type(value) is not bytes:
            raise Malformed(f"{kind_of(value)} where bytes belong")
        if not low <= len(value) <= high:
            raise Malformed(f"{len(value)} bytes; {_range(low, high)} are allowed")
        return value

    return check


def _check_text(low: int, high: int) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str):
            raise Malformed(f"{kind_of(value)} where text belongs")
        try:
            size = len(value) if value.isascii() else len(value.encode())
        except UnicodeEncodeError:
            raise Malformed("text that is not valid Unicode (a lone surrogate)") from None
        if not low <= size <= high:
            raise Malformed(f"a text of {size} bytes; {_range(low, high)} are allowed")
        return str(value)

    return check


def _range(low: int, high: int) -> str:
    return f"exactly {low}" if low == high else f"{low} to {high}"


def _check_peer_id(value: object) -> str:
    if type(value) is not str:
        raise Malformed(f"{kind_of(value)} where a peer id belongs")
    try:
        public_key_of(value)
    except ProtocolError as wrong:
        raise Malformed(str(wrong)) from None
    return value


def _pack_cid(value: object) -> bytes:
    if type(value) is not str:
        raise Malformed(f"{kind_of(value)} where a content id belongs")
    try:
        return _cid_to_bytes(Cid(value))
    except ProtocolError as wrong:
        raise Malformed(str(wrong)) from None


def _unpack_cid(value: object) -> Cid:
    if type(value) is not bytes:
        raise Malformed(f"{kind_of(value)} where a content id belongs")
    try:
        return _cid_from_bytes(value)
    except ProtocolError as wrong:
        raise Malformed(str(wrong)) from None


# The same few ids come in every advert and request.
_cid_to_bytes = lru_cache(4096)(cid_to_bytes)
_cid_from_bytes = lru_cache(4096)(cid_from_bytes)
