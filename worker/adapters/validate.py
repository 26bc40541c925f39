"""Whether an adapter file may be loaded: LoRA in safetensors, made for this base, of sane size and numbers.

Rules of this file:
- An adapter is a stranger's file. Nothing of it is used before its header, names, shapes, dtypes and numbers
  were checked; one that fails is InvalidAdapter, with a sentence that says what is wrong with which adapter.
- Names are exactly those that peft writes: `base_model.model.model.layers.N.BLOCK.LINEAR.lora_A.weight` and
  `lora_B`, for every layer and every target of the manifest, and nothing else.
- No torch: whoever publishes an adapter can check it as its servers will.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from ...protocol.content.manifests import AdapterManifest
from ...protocol.errors import InvalidAdapter, NotFound
from ...protocol.ids import Cid
from ..engine.types import AdapterSource
from ..models.architecture import LINEARS, Architecture, block_of, linear_shapes
from ..models.tensor_file import (
    DTYPE_BYTES,
    Allocate,
    Malformed,
    Span,
    TensorFile,
    new_bytes,
    numbers,
    open_tensor_file,
)

MAX_HEADER_BYTES = 1 << 20
MAX_RANK = 256
MAX_ABSOLUTE = 1e3
"""No trained factor comes near: peft starts A below 1 and B at 0."""
MAX_UPDATE_NORM = 1e4
"""Bound on alpha / rank · ‖A‖ · ‖B‖ (Frobenius) of one linear: above it the update drowns the base."""


def check_manifest(manifest: AdapterManifest, bases: Sequence[Cid], max_rank: int = MAX_RANK) -> None:
    """Whether an adapter with this manifest can be served on a base of these names at all.

    Raises InvalidAdapter.

    `bases`: the reference's id first, then the artefact's.
    """
    if manifest.base not in bases:
        raise InvalidAdapter(
            f"the adapter {manifest.name!r} was made for the base {manifest.base}, not for {bases[0]}: "
            "use a worker of its base"
        )
    if not 1 <= manifest.rank <= max_rank:
        raise InvalidAdapter(
            f"the adapter {manifest.name!r} has rank {manifest.rank}; 1 to {max_rank} are served here"
        )
    _check_targets(manifest.name, manifest.targets)


def check_adapter_file(
    path: Path, source: AdapterSource, architecture: Architecture, allocate: Allocate = new_bytes
) -> TensorFile:
    """The file at `path`, loaded, checked against what its manifest says (`source`) and the base.

    Its content lies in what `allocate` gives.

    Raises InvalidAdapter; NotFound when the file cannot be read.
    """
    if not 1 <= source.rank <= MAX_RANK:
        raise InvalidAdapter(
            f"the adapter {source.adapter} has rank {source.rank}; 1 to {MAX_RANK} are accepted"
        )
    _check_targets(source.adapter, source.targets)
    try:
        file = open_tensor_file(path, MAX_HEADER_BYTES)
        _check_tensors(file.tensors, adapter_shapes(architecture, source))
        file = file.load(allocate)
        _check_numbers(file, source.alpha / source.rank)
    except Malformed as wrong:
        raise InvalidAdapter(f"the adapter {source.adapter} {wrong}") from None
    except OSError as wrong:
        raise NotFound(f"the file of the adapter {source.adapter} cannot be read: {wrong.strerror}") from None
    return file


def _check_targets(name: str, targets: Iterable[str]) -> None:
    listed = list(targets)
    unknown = sorted(set(listed) - set(LINEARS))
    if unknown or not listed or len(set(listed)) != len(listed):
        what = f"unknown targets {', '.join(unknown)}" if unknown else "missing or repeated targets"
        raise InvalidAdapter(f"the adapter {name!r} has {what}; it may change {', '.join(LINEARS)}")


def adapter_shapes(architecture: Architecture, source: AdapterSource) -> Mapping[str, tuple[int, int]]:
    """The tensors that the file of this adapter holds, no more and no less."""
    return _shapes_of(architecture, source.rank, source.targets)


@lru_cache(maxsize=64)
def _shapes_of(
    architecture: Architecture, rank: int, targets: tuple[str, ...]
) -> Mapping[str, tuple[int, int]]:
    shapes: dict[str, tuple[int, int]] = {}
    for layer in range(architecture.layers):
        for target in targets:
            rows, columns = linear_shapes(architecture)[target]
            prefix = f"base_model.model.model.layers.{layer}.{block_of(target)}.{target}"
            shapes[f"{prefix}.lora_A.weight"] = (rank, columns)
            shapes[f"{prefix}.lora_B.weight"] = (rows, rank)
    return shapes


def _check_tensors(found: Mapping[str, Span], expected: Mapping[str, tuple[int, int]]) -> None:
    for name in sorted(found.keys() - expected.keys()):
        raise Malformed(
            f"holds an unexpected tensor {name[:120]!r}: was it made for another base or other targets?"
        )
    for name in sorted(expected.keys() - found.keys()):
        raise Malformed(f"lacks the tensor {name!r}: was it made for another base or other targets?")
    for name, span in found.items():
        if span.shape != expected[name]:
            raise Malformed(
                f"was made for another base or rank: {name!r} has the shape {span.shape}; "
                f"here it must be {expected[name]}; use it on the base that it was made for"
            )


def _check_numbers(file: TensorFile, scale: float) -> None:
    """Raises Malformed. One pass over the whole file where all is well and its largest number says so."""
    largest = _largest(file)
    if not largest <= MAX_ABSOLUTE:
        _blame(file)
    sizes = {name: math.prod(span.shape) for name, span in file.tensors.items()}
    pairs = [(name, name.replace(".lora_A.", ".lora_B.")) for name in sizes if ".lora_A." in name]
    if all(scale * largest**2 * math.sqrt(sizes[a] * sizes[b]) <= MAX_UPDATE_NORM for a, b in pairs):
        return  # ‖A‖ ≤ √size · largest
    norms = {name: float(np.linalg.norm(file.array(name).astype(np.float32))) for name in sizes}
    for a, b in pairs:
        if scale * norms[a] * norms[b] > MAX_UPDATE_NORM:
            raise Malformed(
                f"changes {a.split('.lora_A')[0]!r} beyond all measure (norm bound {MAX_UPDATE_NORM:.0f})"
            )


def _largest(file: TensorFile) -> float:
    """The largest magnitude of all numbers; NaN where there is one."""
    spans = list(file.tensors.values())
    if len({span.dtype for span in spans}) == 1:  # tensors tile the file: they are one array
        start, end = min(span.start for span in spans), max(span.end for span in spans)
        spans = [Span(spans[0].dtype, ((end - start) // DTYPE_BYTES[spans[0].dtype],), start, end)]
    return float(np.max([_magnitude(file.words(span), span.dtype) for span in spans]))


def _magnitude(words: npt.NDArray[Any], dtype: str) -> float:
    """Without its sign a number's bits rise with its size, infinity above all and NaN above that.

    As signed integers the positive come last, as unsigned ones the negative: two passes, and no copy, whose
    fresh memory would take longer than both.
    """
    sign = np.iinfo(words.dtype).max // 2 + 1
    signed, unsigned = int(words.view(words.dtype.str.replace("u", "i")).max()), int(words.max())
    bits = np.array([max(signed, unsigned - sign, 0)], words.dtype)
    return float(numbers(bits.view(np.uint8), Span(dtype, (1,), 0, 0))[0])


def _blame(file: TensorFile) -> NoReturn:
    """Say which tensor it was."""
    sizes = ((name, _magnitude(file.words(span), span.dtype)) for name, span in file.tensors.items())
    name, largest = next((name, size) for name, size in sizes if not size <= MAX_ABSOLUTE)
    what = f"a number of size {largest:.3g}" if math.isfinite(largest) else "infinite numbers or NaN"
    raise Malformed(f"holds {what} in {name!r}")
