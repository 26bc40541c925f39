"""Strict canonical CBOR: one value has one encoding, and whatever else arrives is refused before it means anything.

Rules of this file:
- RFC 8949 §4.2.1 (deterministic encoding): definite lengths, shortest heads, map keys sorted bytewise by their encoding
  and never twice. No floats, tags, `undefined` or other simple values, no keys but text.
- A record is the map {field name: value}. A field that is None is left out; every other field is always there, so a
  missing or unknown key is an error. CIDs travel as their 36 binary bytes, integers above 64 bits as big-endian bytes.
- What this program encodes wrongly is a LocalProtocolError; what it cannot decode is a RemoteProtocolError. Nothing else
  leaves this file. Decoded input costs at most some 70 times its length in memory (an empty list is one byte), so
  callers name the limit.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import cache, lru_cache
from typing import Any, NoReturn, TypeVar, assert_never, cast

import cbor2

from .errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from .ids import Cid, cid_from_bytes, cid_of, cid_to_bytes, public_key_of
from .manifests import CHUNK_SIZE
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

MAX_DEPTH = 16
MAX_FRAME = 1 << 20
"""Bytes of the body of one frame on a stream."""

T = TypeVar("T", bound=Record)
Value = int | str | bytes | bool | None | list["Value"] | dict[str, "Value"]
"""Plain canonical CBOR. Integers lie in -2^64 … 2^64 - 1."""


class _Malformed(ValueError):
    """A value that does not fit its shape; becomes a ProtocolError of the side that made it."""

    def within(self, place: str) -> _Malformed:
        inner = str(self)
        return _Malformed(f"{place}{inner}" if inner.startswith((".", "[")) else f"{place}: {inner}")


# ---- records


def encode(record: Record) -> bytes:
    """The canonical CBOR of a record. Raises LocalProtocolError where a field does not fit its annotation."""
    try:
        return _dump(_pack_record(type(record))(record))
    except _Malformed as wrong:
        raise LocalProtocolError(f"cannot encode {wrong.within(type(record).__name__)}") from None


def decode(cls: type[T], data: bytes, max_bytes: int = MAX_FRAME) -> T:
    """The record of class `cls` in `data`. Raises RemoteProtocolError."""
    return _unpack(cls, _load(data, max_bytes))


def encode_all(records: Sequence[Record]) -> bytes:
    """The canonical CBOR list of records. Raises LocalProtocolError."""
    try:
        return _dump([_pack_record(type(record))(record) for record in records])
    except _Malformed as wrong:
        raise LocalProtocolError(f"cannot encode a list of records: {wrong}") from None


def decode_all(cls: type[T], data: bytes, max_bytes: int = MAX_FRAME) -> tuple[T, ...]:
    """The records of class `cls` in a canonical CBOR list. Raises RemoteProtocolError."""
    items = _load(data, max_bytes)
    if type(items) is not list:
        raise RemoteProtocolError(f"not a list of {cls.__name__} but {_kind(items)}")
    return tuple(_unpack(cls, item) for item in cast(list[object], items))


def record_hash(record: Record) -> bytes:
    """sha2-256 of a record's encoding, 32 bytes."""
    return hashlib.sha256(encode(record)).digest()


def record_cid(record: Record) -> Cid:
    """The CID that names a manifest: its encoding is a blob of one chunk, so the codec is `raw`. Raises LocalProtocolError."""
    data = encode(record)
    if len(data) > CHUNK_SIZE:
        raise LocalProtocolError(f"a {type(record).__name__} of {len(data)} bytes; a manifest is at most {CHUNK_SIZE}")
    return cid_of(data)


# ---- messages: a record that says what it is


@cache
def tag_of(cls: type[Record]) -> str:
    """The name of a record class on the wire: its class name in snake_case."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()


def encode_message(message: Record) -> bytes:
    """Canonical CBOR `[tag, map]`. Raises LocalProtocolError."""
    try:
        return _dump([tag_of(type(message)), _pack_record(type(message))(message)])
    except _Malformed as wrong:
        raise LocalProtocolError(f"cannot encode {wrong.within(type(message).__name__)}") from None


def decode_message(data: bytes, allowed: tuple[type[T], ...], max_bytes: int = MAX_FRAME) -> T:
    """The message in `data`, which must be of one of the `allowed` classes. Raises RemoteProtocolError."""
    raw = _load(data, max_bytes)
    pair = cast(list[object], raw) if type(raw) is list else []
    if len(pair) != 2 or type(pair[0]) is not str:
        raise RemoteProtocolError(f"not a message ([tag, fields]) but {_kind(raw)}")
    return _unpack(class_of(pair[0], allowed), pair[1])


def class_of(tag: str, allowed: tuple[type[T], ...]) -> type[T]:
    """The class among `allowed` that travels under `tag`. Raises RemoteProtocolError."""
    for cls in allowed:
        if tag_of(cls) == tag:
            return cls
    names = ", ".join(tag_of(cls) for cls in allowed)
    raise RemoteProtocolError(f"unexpected message {tag[:64]!r}; expected one of: {names}")


# ---- plain values


def encode_value(value: object) -> bytes:
    """Canonical CBOR of None, bool, int, str, bytes, and lists, tuples and str-keyed dicts of these. Raises LocalProtocolError."""
    try:
        _check_value(value, 0)
        return _dump(value)
    except _Malformed as wrong:
        raise LocalProtocolError(f"cannot encode: {wrong}") from None


def decode_value(data: bytes, max_bytes: int = MAX_FRAME) -> Value:
    """The plain value in `data`. Raises RemoteProtocolError unless `data` is exactly its canonical encoding."""
    value = _load(data, max_bytes)
    try:
        _check_value(value, 0)
    except _Malformed as wrong:
        raise RemoteProtocolError(f"not plain CBOR: {wrong}") from None
    return cast(Value, value)


def _check_value(value: object, depth: int) -> None:
    if value is None or isinstance(value, (bool, str, bytes)):
        return
    if isinstance(value, int):
        if not -(1 << 64) <= value < 1 << 64:
            raise _Malformed("an integer of more than 64 bits")
        return
    if depth == MAX_DEPTH:
        raise _Malformed(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, (list, tuple)):
        for item in cast(Sequence[object], value):
            _check_value(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in cast(dict[object, object], value).items():
            if not isinstance(key, str):
                raise _Malformed(f"a map key that is {_kind(key)}, not text")
            _check_value(item, depth + 1)
    else:
        raise _Malformed(f"{_kind(value)} cannot travel")


# ---- frames on a stream


def frame(body: bytes) -> bytes:
    """`body` behind its length (uint32, big-endian). Raises LocalProtocolError above MAX_FRAME bytes."""
    if len(body) > MAX_FRAME:
        raise LocalProtocolError(f"a frame of {len(body)} bytes; at most {MAX_FRAME} fit: send less at once")
    return len(body).to_bytes(4, "big") + body


class FrameReader:
    """Cuts a byte stream into frames. Holds at most one incomplete frame."""

    def __init__(self, max_bytes: int = MAX_FRAME) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of an incomplete frame; not 0 at the end of a stream means that it was cut."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes. Raises RemoteProtocolError when a frame announces more than the limit."""
        self._buffer += data
        frames: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= 4:
            end = start + 4 + self._length_at(start)
            if len(self._buffer) < end:
                break
            frames.append(bytes(self._buffer[start + 4 : end]))
            start = end
        del self._buffer[:start]
        return frames

    def _length_at(self, start: int) -> int:
        length = int.from_bytes(self._buffer[start : start + 4], "big")
        if length > self._max_bytes:
            raise RemoteProtocolError(f"a frame of {length} bytes; at most {self._max_bytes} are accepted")
        return length


# ---- bytes <-> Python values; the only use of cbor2


def _refuse_tag(_decoder: object, _immutable: bool) -> NoReturn:
    raise _Malformed("tags are not part of this protocol")


class _NoTags(dict[int, Callable[[Any, bool], Any]]):
    """For every tag a decoder that refuses: cbor2's own would build dates, patterns, shared and cyclic values."""

    def __missing__(self, tag: int) -> Callable[[Any, bool], Any]:
        return _refuse_tag


_NO_TAGS = _NoTags()


def _load(data: bytes, max_bytes: int) -> object:
    if len(data) > max_bytes:
        raise RemoteProtocolError(f"{len(data)} bytes of CBOR; at most {max_bytes} are accepted here")
    try:
        value: object = cbor2.loads(
            data,
            max_depth=MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
            semantic_decoders=_NO_TAGS,
        )
        canonical = cbor2.dumps(value, canonical=True)
    except (cbor2.CBORError, ValueError, OverflowError, TypeError) as wrong:
        raise RemoteProtocolError(f"not CBOR of this protocol: {wrong}") from None
    # The shortest heads, sorted keys and the absence of trailing bytes all follow from this one comparison.
    if canonical != data:
        raise RemoteProtocolError("CBOR that is not canonical (integer heads, key order or trailing bytes)")
    return value


def _dump(value: object) -> bytes:
    try:
        return cbor2.dumps(value, canonical=True)
    except (cbor2.CBORError, ValueError, OverflowError, TypeError) as wrong:
        raise LocalProtocolError(f"cannot be CBOR: {wrong}") from wrong


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__


# ---- shapes compiled to functions, once per class

_Step = Callable[[Any], Any]


@cache
def _pack_record(cls: type[Record]) -> _Step:
    steps = [(name, _packer(shape), isinstance(shape, OptionalShape)) for name, shape in shapes_of(cls)]

    def pack(record: object) -> dict[str, object]:
        if type(record) is not cls:
            raise _Malformed(f"{_kind(record)} where {cls.__name__} belongs")
        packed: dict[str, object] = {}
        name = ""
        try:
            for name, step, optional in steps:
                value = getattr(record, name)
                if value is not None or not optional:
                    packed[name] = step(value)
        except _Malformed as wrong:
            raise wrong.within(f".{name}") from None
        return packed

    return pack


@cache
def _unpack_record(cls: type[Record]) -> _Step:
    steps = [(name, _unpacker(shape), isinstance(shape, OptionalShape)) for name, shape in shapes_of(cls)]

    def unpack(raw: object) -> object:
        if type(raw) is not dict:
            raise _Malformed(f"{_kind(raw)} where {cls.__name__} belongs")
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
                    raise _Malformed("missing")
        except _Malformed as wrong:
            raise wrong.within(f".{name}") from None
        if left:
            raise _Malformed(f"unknown field {str(next(iter(left)))[:64]!r}")
        return cls(*values)

    return unpack


def _unpack(cls: type[T], raw: object) -> T:
    try:
        return cast(T, _unpack_record(cls)(raw))
    except _Malformed as wrong:
        raise RemoteProtocolError(f"bad {wrong.within(cls.__name__)}") from None


def _packer(shape: Shape) -> _Step:
    match shape:
        case OptionalShape(inner):
            return _packer(inner)
        case RecordShape(cls):
            return lambda value: _pack_record(cls)(value)
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
            return lambda value: _unpack_record(cls)(value)
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
    """The function that returns a field's plain value, or raises _Malformed. The same on both ways."""
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
            raise _Malformed(f"{_kind(items)} where a {kind.__name__} belongs")
        sequence = cast(Sequence[object], items)
        if not low <= len(sequence) <= high:
            raise _Malformed(f"{len(sequence)} items; {low} to {high} are allowed")
        index = 0
        try:
            done: list[object] = []
            for index, item in enumerate(sequence):  # noqa: B007 - the error names it
                done.append(step(item))
        except _Malformed as wrong:
            raise wrong.within(f"[{index}]") from None
        return build(done)

    return each


def _check_bool(value: object) -> bool:
    if type(value) is not bool:
        raise _Malformed(f"{_kind(value)} where true or false belongs")
    return value


def _check_uint(bits: int) -> Callable[[object], int]:
    limit = 1 << bits

    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < limit:
            shown = value if isinstance(value, int) else _kind(value)
            raise _Malformed(f"{str(shown)[:40]} is not a uint{bits}")
        return int(value)

    return check


def _check_enum(cls: type[IntEnum]) -> Callable[[object], int]:
    members = frozenset(int(member) for member in cls)

    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value not in members:
            raise _Malformed(f"{str(value)[:40]} is not a {cls.__name__}")
        return int(value)

    return check


def _check_bytes(low: int, high: int) -> Callable[[object], bytes]:
    def check(value: object) -> bytes:
        if type(value) is not bytes:
            raise _Malformed(f"{_kind(value)} where bytes belong")
        if not low <= len(value) <= high:
            raise _Malformed(f"{len(value)} bytes; {_range(low, high)} are allowed")
        return value

    return check


def _check_text(low: int, high: int) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str):
            raise _Malformed(f"{_kind(value)} where text belongs")
        try:
            size = len(value) if value.isascii() else len(value.encode())
        except UnicodeEncodeError:
            raise _Malformed("text that is not valid Unicode (a lone surrogate)") from None
        if not low <= size <= high:
            raise _Malformed(f"a text of {size} bytes; {_range(low, high)} are allowed")
        return str(value)

    return check


def _range(low: int, high: int) -> str:
    return f"exactly {low}" if low == high else f"{low} to {high}"


def _check_peer_id(value: object) -> str:
    if type(value) is not str:
        raise _Malformed(f"{_kind(value)} where a peer id belongs")
    try:
        public_key_of(value)
    except ProtocolError as wrong:
        raise _Malformed(str(wrong)) from None
    return value


def _pack_cid(value: object) -> bytes:
    if type(value) is not str:
        raise _Malformed(f"{_kind(value)} where a content id belongs")
    try:
        return _cid_to_bytes(Cid(value))
    except ProtocolError as wrong:
        raise _Malformed(str(wrong)) from None


def _unpack_cid(value: object) -> Cid:
    if type(value) is not bytes:
        raise _Malformed(f"{_kind(value)} where a content id belongs")
    try:
        return _cid_from_bytes(value)
    except ProtocolError as wrong:
        raise _Malformed(str(wrong)) from None


# The same few ids come in every advert and request.
_cid_to_bytes = lru_cache(4096)(cid_to_bytes)
_cid_from_bytes = lru_cache(4096)(cid_from_bytes)
