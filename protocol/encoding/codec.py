"""Strict canonical CBOR: one value has one encoding, and whatever else arrives is refused before it means
anything.

Rules of this file:
- `canonical` decides which bytes are read at all; every value has exactly one encoding.
- A record is the map {field name: value}. A field that is None is left out; every other field is always
  there, so a missing or unknown key is an error. CIDs travel as their 36 binary bytes, integers above 64 bits
  as big-endian bytes.
- What this program encodes wrongly is a LocalProtocolError; what it cannot decode is a RemoteProtocolError.
  Nothing else leaves this file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from typing import TypeVar, cast

import cbor2

from ..errors import LocalProtocolError, RemoteProtocolError
from ..ids import CHUNK_SIZE, Cid, cid_of
from .canonical import MAX_DEPTH, check_canonical
from .packing import Malformed, kind_of, pack_record, unpack_record
from .shapes import Record

MAX_FRAME = 1 << 20
"""Bytes of the body of one frame on a stream."""

T = TypeVar("T", bound=Record)
Value = int | str | bytes | bool | None | list["Value"] | dict[str, "Value"]
"""Plain canonical CBOR. Integers lie in -2^64 … 2^64 - 1."""


# ---- records


def encode(record: Record) -> bytes:
    """The canonical CBOR of a record. Raises LocalProtocolError where a field does not fit its annotation."""
    try:
        return _dump(pack_record(type(record))(record))
    except Malformed as wrong:
        raise LocalProtocolError(f"cannot encode {wrong.within(type(record).__name__)}") from None


def decode(cls: type[T], data: bytes, max_bytes: int = MAX_FRAME) -> T:
    """The record of class `cls` in `data`. Raises RemoteProtocolError."""
    return _unpack(cls, _load(data, max_bytes))


def encode_all(records: Sequence[Record]) -> bytes:
    """The canonical CBOR list of records. Raises LocalProtocolError."""
    try:
        return _dump([pack_record(type(record))(record) for record in records])
    except Malformed as wrong:
        raise LocalProtocolError(f"cannot encode a list of records: {wrong}") from None


def decode_all(cls: type[T], data: bytes, max_bytes: int = MAX_FRAME) -> tuple[T, ...]:
    """The records of class `cls` in a canonical CBOR list. Raises RemoteProtocolError."""
    return tuple(_unpack(cls, item) for item in _items(_load(data, max_bytes)))


def record_hash(record: Record) -> bytes:
    """sha2-256 of a record's encoding, 32 bytes."""
    return hashlib.sha256(encode(record)).digest()


def record_cid(record: Record) -> Cid:
    """The CID that names a manifest: its encoding is a blob of one chunk, so the codec is `raw`.

    Raises LocalProtocolError.
    """
    data = encode(record)
    if len(data) > CHUNK_SIZE:
        raise LocalProtocolError(
            f"a {type(record).__name__} of {len(data)} bytes; a manifest is at most {CHUNK_SIZE}"
        )
    return cid_of(data)


def _unpack(cls: type[T], raw: object) -> T:
    try:
        return cast(T, unpack_record(cls)(raw))
    except Malformed as wrong:
        raise RemoteProtocolError(f"bad {wrong.within(cls.__name__)}") from None


# ---- messages: a record that says what it is


@cache
def tag_of(cls: type[Record]) -> str:
    """The name of a record class on the wire: its class name in snake_case."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()


def encode_message(message: Record) -> bytes:
    """Canonical CBOR `[tag, map]`. Raises LocalProtocolError."""
    try:
        return _dump([tag_of(type(message)), pack_record(type(message))(message)])
    except Malformed as wrong:
        raise LocalProtocolError(f"cannot encode {wrong.within(type(message).__name__)}") from None


def decode_message(data: bytes, allowed: tuple[type[T], ...], max_bytes: int = MAX_FRAME) -> T:
    """The message in `data`, which must be of one of the `allowed` classes. Raises RemoteProtocolError."""
    match _items(_load(data, max_bytes)):
        case [str(tag), fields]:
            return _unpack(class_of(tag, allowed), fields)
        case _:
            raise RemoteProtocolError("not a message ([tag, fields])")


def class_of(tag: str, allowed: tuple[type[T], ...]) -> type[T]:
    """The class among `allowed` that travels under `tag`. Raises RemoteProtocolError."""
    for cls in allowed:
        if tag_of(cls) == tag:
            return cls
    names = ", ".join(tag_of(cls) for cls in allowed)
    raise RemoteProtocolError(f"unexpected message {tag[:64]!r}; expected one of: {names}")


# ---- plain values


def encode_value(value: object) -> bytes:
    """Canonical CBOR of None, bool, int, str, bytes, and lists, tuples and str-keyed dicts of these.

    Raises LocalProtocolError.
    """
    try:
        _check_value(value, 0)
        return _dump(value)
    except Malformed as wrong:
        raise LocalProtocolError(f"cannot encode: {wrong}") from None


def decode_value(data: bytes, max_bytes: int = MAX_FRAME) -> Value:
    """The plain value in `data`.

    Raises RemoteProtocolError unless `data` is exactly its canonical encoding.
    """
    return cast(Value, _load(data, max_bytes))


def _check_value(value: object, depth: int) -> None:
    if value is None or isinstance(value, (bool, str, bytes)):
        return
    if isinstance(value, int):
        if not -(1 << 64) <= value < 1 << 64:
            raise Malformed("an integer of more than 64 bits")
        return
    if depth == MAX_DEPTH:
        raise Malformed(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, (list, tuple)):
        for item in cast(Sequence[object], value):
            _check_value(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in cast(dict[object, object], value).items():
            if not isinstance(key, str):
                raise Malformed(f"a map key that is {kind_of(key)}, not text")
            _check_value(item, depth + 1)
    else:
        raise Malformed(f"{kind_of(value)} cannot travel")


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
        """The frames that `data` completes.

        Raises RemoteProtocolError when a frame announces more than the limit.
        """
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


def _load(data: bytes, max_bytes: int) -> object:
    check_canonical(data, max_bytes)
    try:
        return cast(object, cbor2.loads(data))
    except (cbor2.CBORError, ValueError) as wrong:  # texts that are not UTF-8 are all that is left to find
        raise RemoteProtocolError(f"not CBOR of this protocol: {wrong}") from None


def _items(value: object) -> list[object]:
    if not isinstance(value, list):
        raise RemoteProtocolError(f"not a list but {kind_of(value)}")
    return cast(list[object], value)


def _dump(value: object) -> bytes:
    try:
        return cbor2.dumps(value, canonical=True)
    except (cbor2.CBORError, ValueError, OverflowError, TypeError) as wrong:
        raise LocalProtocolError(f"cannot be CBOR: {wrong}") from wrong
