"""Whether bytes are canonical CBOR, decided before anything is built from them.

Rules of this file (RFC 8949 §4.2.1, and less than RFC 8949 allows):
- definite lengths and shortest heads only; map keys are texts, ascending bytewise by their encoding, never
  twice;
- no tags, no floats, no simple values but false, true and null;
- one item, no bytes behind it; at most MAX_DEPTH containers inside each other;
- at most one item for every 8 bytes that the caller accepts (1,024 are always allowed): a hostile mebibyte
  costs some 60 ms and 10 MB, whatever it claims. Nothing is allocated but the stack of open containers.
Not checked here: that texts are valid UTF-8. The decoder does.
"""

from __future__ import annotations

from ..errors import RemoteProtocolError

MAX_DEPTH = 16
_ALWAYS_ALLOWED_ITEMS = 1_024
_BYTES_PER_ITEM = 8
_SHORTEST = (24, 1 << 8, 1 << 16, 1 << 32)
"""The least argument that may need 1, 2, 4 and 8 further bytes."""
_FALSE, _TRUE, _NULL = 0xF4, 0xF5, 0xF6
_BYTES, _TEXT, _LIST, _MAP, _TAG = range(2, 7)


def check_canonical(data: bytes, max_bytes: int) -> None:
    """Raises RemoteProtocolError unless `data` is exactly one canonical item of at most `max_bytes` bytes."""
    end = len(data)
    if end > max_bytes:
        raise RemoteProtocolError(f"{end} bytes of CBOR; at most {max_bytes} are accepted here")
    budget = max(_ALWAYS_ALLOWED_ITEMS, max_bytes // _BYTES_PER_ITEM)
    # Of the innermost open container: items still to come, whether it is a map, its last key as encoded.
    left, is_map, last_key = 1, False, b""
    outer: list[tuple[int, bool, bytes]] = []
    start = 0
    while left or outer:
        if not left:
            left, is_map, last_key = outer.pop()
            continue
        left, budget = left - 1, budget - 1
        major, argument, stop = _read_head(data, start, end)
        if major in (_BYTES, _TEXT):
            stop += argument
        if stop > end or not budget:
            raise RemoteProtocolError("CBOR that is cut short" if budget else "CBOR of too many items")
        if is_map and left & 1:
            last_key = _check_key(major, data[start:stop], last_key)
        if major in (_LIST, _MAP):
            if len(outer) == MAX_DEPTH:
                raise RemoteProtocolError(f"CBOR nested deeper than {MAX_DEPTH}")
            outer.append((left, is_map, last_key))
            is_map, last_key = major == _MAP, b""
            left = 2 * argument if is_map else argument
        start = stop
    if start != end:
        raise RemoteProtocolError(f"{end - start} bytes behind the end of the CBOR")


def _read_head(data: bytes, start: int, end: int) -> tuple[int, int, int]:
    """(major type, argument, where the head ends) of the item that begins at `start`."""
    if start >= end:
        raise RemoteProtocolError("CBOR that is cut short")
    initial = data[start]
    major, info = initial >> 5, initial & 31
    if major >= _TAG and initial not in (_FALSE, _TRUE, _NULL):
        raise RemoteProtocolError("a CBOR tag, float or simple value; none is part of this protocol")
    if info < 24:
        return major, info, start + 1
    if info > 27:
        raise RemoteProtocolError("CBOR of indefinite length")
    stop = start + 1 + (1 << (info - 24))
    argument = int.from_bytes(data[start + 1 : stop], "big")
    if stop <= end and argument < _SHORTEST[info - 24]:
        raise RemoteProtocolError("a CBOR head that is longer than needed")
    return major, argument, stop


def _check_key(major: int, key: bytes, last_key: bytes) -> bytes:
    if major != _TEXT:
        raise RemoteProtocolError("a CBOR map key that is not text")
    if key <= last_key:
        raise RemoteProtocolError("CBOR map keys that are not in order, or the same key twice")
    return key
