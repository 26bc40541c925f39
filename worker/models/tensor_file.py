"""The safetensors format, read strictly and written as a stream
(https://github.com/huggingface/safetensors#format).

Rules of this file:
- Nothing is believed: the header's length, JSON, names, dtypes, shapes and offsets are checked before any
  byte of a tensor is touched; offsets must tile the data exactly, without gaps or overlaps. Never pickle.
- No torch: a node checks an adapter without loading a tensor library. Bytes become arrays with numpy, bf16
  widened.
- Whatever is wrong is `Malformed` with a reason; callers say which file of whose it was.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...protocol.content.manifests import Tensor
from ...protocol.encoding.untrusted_json import load_json
from ...protocol.errors import LocalProtocolError

DTYPE_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
CODES = {"I8": 1}
"""What only files that are asked for codes may hold beside."""
MAX_HEADER_BYTES = 64 << 20
MAX_TENSORS = 100_000
_REMEMBERED_BYTES = 128 << 10
_MAGICS = (
    (b"PK\x03\x04", "a pickle file (torch.save)"),
    (b"\x80\x02", "a pickle file"),
    (b"\x80\x03", "a pickle file"),
    (b"\x80\x04", "a pickle file"),
    (b"\x80\x05", "a pickle file"),
    (b"GGUF", "a GGUF file"),
)


Allocate = Callable[[int], npt.NDArray[np.uint8]]
"""Bytes to read a file into: so many, with anything in them."""


def new_bytes(size: int) -> npt.NDArray[np.uint8]:
    """Nobody else's."""
    return np.empty(size, np.uint8)


class Malformed(Exception):
    """Why a file is not acceptable safetensors: a clause that follows "the file"."""


@dataclass(frozen=True, slots=True)
class Span:
    """One tensor inside a file: bytes [start, end) from the beginning of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class TensorFile:
    """A file whose header has been checked. `metadata` is the header's `__metadata__`.

    `content` is the whole file where it was loaded.
    """

    path: Path
    tensors: Mapping[str, Span]
    metadata: Mapping[str, str]
    content: npt.NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)

    def load(self, allocate: Allocate = new_bytes) -> TensorFile:
        """This file with its content in memory that `allocate` gives, read at once.

        Raises Malformed when the file has shrunk.
        """
        content = allocate(max(span.end for span in self.tensors.values()))
        with self.path.open("rb", buffering=0) as file:  # not mapped: one cut under a mapping would kill us
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)  # a sixth less than piecemeal
            if file.readinto(content.data) != len(content):
                raise Malformed("was cut while it was read")
        return replace(self, content=content)

    def words(self, span: Span) -> npt.NDArray[Any]:
        """Numbers of a loaded file as unsigned integers of their width: a view."""
        if self.content is None:
            raise LocalProtocolError(f"{self.path} is not loaded")
        return self.content[span.start : span.end].view(f"<u{DTYPE_BYTES[span.dtype]}").reshape(span.shape)

    def array(self, name: str) -> npt.NDArray[Any]:
        """One tensor as float32 or float16.

        Raises Malformed when the file has shrunk.
        """
        if self.content is not None:
            span = self.tensors[name]
            return numbers(self.content[span.start : span.end], span)
        return dict(self.arrays((name,)))[name]

    def arrays(self, names: Iterable[str] | None = None) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """Tensors, the named ones or all, as float32 or float16, one in memory at a time.

        Raises Malformed.
        """
        for name, raw in self.read(self.tensors if names is None else names):
            yield name, numbers(np.frombuffer(raw, np.uint8), self.tensors[name])

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, bytearray]]:
        """The little-endian, row-major bytes of tensors. Raises Malformed when the file has shrunk."""
        with self.path.open("rb") as file:  # not mapped: a file cut under a mapping would kill the process
            for name in names:
                span = self.tensors[name]
                raw = bytearray(span.end - span.start)
                file.seek(span.start)
                if file.readinto(raw) != len(raw):
                    raise Malformed("was cut while it was read")
                yield name, raw


def numbers(raw: npt.NDArray[np.uint8], span: Span) -> npt.NDArray[Any]:
    """A tensor's bytes as float32 or float16; codes as int8."""
    if span.dtype in CODES:
        return raw.view(np.int8).reshape(span.shape)
    if span.dtype == "BF16":
        wide = raw.view("<u2").astype(np.uint32) << 16
        return wide.view(np.float32).reshape(span.shape)
    return raw.view("<f4" if span.dtype == "F32" else "<f2").reshape(span.shape)


# ---- reading


def open_tensor_file(path: Path, max_header: int = MAX_HEADER_BYTES, *, codes: bool = False) -> TensorFile:
    """A file's checked header; `codes` may be in it only where the caller knows them.

    Raises Malformed; OSError when the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = int.from_bytes(head, "little") if len(head) == 8 else 0
        if not 2 <= length <= size - 8:  # a header of 640 bytes begins like a pickle
            _refuse_other_formats(head)
        if length < 2 or length > max_header:
            raise Malformed(
                f"has a header of {length} bytes; 2 to {max_header} are accepted: is it safetensors?"
            )
        raw = file.read(length)
    if len(raw) != length:
        raise Malformed("is truncated inside its header: copy it again from where it is whole")
    spans, metadata = _described(raw) if length <= _REMEMBERED_BYTES else _describe(raw)
    _check_tiling(spans, 8 + length, size)
    for name, span in spans.items():
        if span.dtype in CODES and not codes:
            raise _unaccepted(name, span.dtype)
    return TensorFile(path, spans, metadata)


def _describe(raw: bytes) -> tuple[Mapping[str, Span], Mapping[str, str]]:
    """The tensors and the metadata that a header names. Raises Malformed."""
    header = _parse(raw)
    metadata = _metadata_of(header.pop("__metadata__", {}))
    return {name: _span_of(name, entry, 8 + len(raw)) for name, entry in header.items()}, metadata


_described = lru_cache(maxsize=64)(_describe)
"""Adapters of one shape have one header: parsing its hundreds of names costs more than reading the numbers.
"""


def _refuse_other_formats(head: bytes) -> None:
    for magic, kind in _MAGICS:
        if head.startswith(magic):
            raise Malformed(f"is {kind}; only safetensors is accepted: re-save it with safetensors")


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        header = load_json(raw.decode("utf-8"), _unique, _refuse_constant)
    except (ValueError, RecursionError) as wrong:
        raise Malformed(f"is not safetensors: its header is not JSON ({str(wrong)[:80]})") from None
    if not isinstance(header, dict) or not 0 < len(header) <= MAX_TENSORS:
        raise Malformed("is not safetensors: its header names no tensors")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


def _metadata_of(raw: object) -> dict[str, str]:
    if not isinstance(raw, dict) or not all(isinstance(value, str) for value in raw.values()):
        raise Malformed("has a __metadata__ that is not a map of texts")
    return dict(raw)


def _span_of(name: str, entry: object, data_start: int) -> Span:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(end)], **rest} if (
            not rest
        ):
            pass
        case _:
            raise Malformed(f"describes tensor {name[:80]!r} wrongly")
    if (size := (DTYPE_BYTES | CODES).get(dtype)) is None:
        raise _unaccepted(name, dtype)
    if len(shape) > 8 or not all(type(side) is int and 0 < side < 1 << 32 for side in shape):
        raise Malformed(f"gives {name[:80]!r} an impossible shape")
    if end - start != math.prod(shape) * size:
        raise Malformed(f"gives {name[:80]!r} {end - start} bytes, but {dtype} {shape} needs another number")
    return Span(dtype, tuple(shape), data_start + start, data_start + end)


def _unaccepted(name: str, dtype: str) -> Malformed:
    return Malformed(f"stores {name[:80]!r} as {dtype[:16]}; accepted: {', '.join(DTYPE_BYTES)}")


def _check_tiling(spans: Mapping[str, Span], data_start: int, size: int) -> None:
    end = data_start
    for name, span in sorted(spans.items(), key=lambda item: item[1].start):
        if span.start != end:
            raise Malformed(f"has a gap or an overlap before {name[:80]!r}")
        end = span.end
    if end > size:
        raise Malformed(f"is truncated to {size} bytes of {end}: copy it again from where it is whole")
    if end < size:
        raise Malformed(f"has {size - end} bytes after its last tensor")


# ---- writing


@dataclass(frozen=True, slots=True)
class PendingTensor:
    """A tensor that will be written: `read` gives its little-endian row-major bytes when its turn comes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], bytes | bytearray | memoryview]

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]


def write_tensor_file(
    path: Path, tensors: Sequence[PendingTensor], wrote: Callable[[int], None] = lambda _size: None
) -> tuple[Tensor, ...]:
    """Write tensors sorted by name, one in memory at a time, and describe each with its digest.

    `wrote` is told bytes.
    """
    ordered = sorted(tensors, key=lambda tensor: tensor.name)
    described: list[Tensor] = []
    with path.open("xb") as file:
        file.write(_header_of(ordered))
        for tensor in ordered:
            raw = tensor.read()
            file.write(raw)
            described.append(Tensor(tensor.name, tensor.dtype, tensor.shape, hashlib.sha256(raw).digest()))
            wrote(tensor.size)
    return tuple(described)


def _header_of(tensors: Iterable[PendingTensor]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.size],
        }
        offset += tensor.size
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw
