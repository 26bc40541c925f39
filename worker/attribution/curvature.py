"""Curvature of an adapter's loss, small enough to travel with it: EK-FAC for LoRA's thin matrices.

Rules of this file:
- A LoRA tensor has a thin side, its rank, and a wide side; here a gradient always stands (rank, wide), so an
  up-projection's is transposed first (`oriented`).
- The rank side has its exact eigenbasis. Of the wide side some columns of the eigenbasis are kept; what they
  leave of a gradient stays in its own coordinates, with a diagonal curvature. All curvatures are corrected:
  second moments of gradients in that very basis, not products of eigenvalues.
- Whitening divides by sqrt(curvature + damping · the tensor's mean curvature), so that the inner product of
  two whitened gradients is g · H^-1 · g' (Grosse et al., "Studying large language model generalization with
  influence functions", 2023; George et al., "Fast approximate natural gradient descent in a
  Kronecker-factored eigenbasis", 2018).
- The wide side's eigenvectors are stored as int8 with a step a column, all else as float16, curvatures as
  ratios to their tensor's mean. Curvature is measured in the basis as it is stored; whoever loads the same
  bytes whitens alike. A file is bounded and checked like everything that strangers publish.
- In a file each part of all tensors is one array, tensors in the order of their names; `columns` says how
  many columns each has; where the rest is not separable, minus that number less one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from ...protocol.errors import InvalidAdapter
from ..models.tensor_file import Malformed, TensorFile, open_tensor_file

FORMAT = "commonlore/curvature/2 damping "
DAMPING = 0.1
"""Chosen on other data and seeds than those it is reported on."""
_LARGEST_RATIO = 60_000.0
_HEADER_BYTES_PER_TENSOR = 16
_MOST_STEPS = 127
_PARTS = ("rank", "wide", "steps", "top", "rest")
Shapes = Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Plan:
    """Which curvature to fit: `columns` of (rank, wide) is how much of a wide side's eigenbasis is kept.

    `separable`: the rest's curvature is the product of its two margins, otherwise each coordinate has its
    own.
    """

    columns: Callable[[int, int], int]
    separable: bool = True
    damping: float = DAMPING


def within_budget(rank: int, wide: int) -> int:
    """As many columns as fit into twice the bytes that the tensor has in an adapter of 16-bit numbers."""
    room = 4 * rank * wide - 2 * (rank * rank + rank + wide) - _HEADER_BYTES_PER_TENSOR
    return max(0, min(wide, room // (wide + 2 * rank + 2)))


FULL = Plan(lambda _rank, wide: wide)
"""EK-FAC as it was published: more bytes than any adapter should bring, here to compare with."""
DIAGONAL = Plan(lambda _rank, _wide: 0, separable=False)
FITTED = Plan(within_budget)
"""What adapters publish."""


def top(columns: int, *, separable: bool = True, damping: float = DAMPING) -> Plan:
    """The same number of columns for every tensor."""
    return Plan(lambda _rank, wide: min(columns, wide), separable, damping)


@dataclass(frozen=True, slots=True, eq=False)
class TensorCurvature:
    """Of one tensor: bases, and curvatures as ratios to their mean.

    `rank` (r, r) and `wide` (d, k) times `steps` (k,) hold eigenvectors in columns, `top` is (r, k). `rest`
    is (r, d), or (r + d,) where it is separable, or empty where the wide basis is whole. `wide` is int8, all
    else float16.
    """

    rank: Tensor
    wide: Tensor
    steps: Tensor
    top: Tensor
    rest: Tensor
    gain: float
    """1 / sqrt(mean curvature); 0 where no gradient was ever seen."""

    @property
    def shape(self) -> tuple[int, int, int, bool]:
        """Rank, width, columns, and whether something is left of a gradient beside the columns."""
        return len(self.rank), *self.wide.shape, self.rest.numel() > 0

    @property
    def size(self) -> int:
        """Coordinates of a whitened gradient."""
        rank, wide, columns, has_rest = self.shape
        return rank * columns + (rank * wide if has_rest else 0)

    def factors(self, damping: float) -> tuple[Tensor, Tensor]:
        """What the columns' part and the rest are multiplied by, float32: (r, k) and (r, d)."""
        top, rest = self.top.float(), self.rest.float()
        if rest.ndim == 1 and rest.numel():
            rest = torch.outer(rest[: len(self.rank)], rest[len(self.rank) :])
        return self.gain * (top + damping).rsqrt(), self.gain * (rest + damping).rsqrt()


class _Whitener:
    """Tensors of one shape, whitened together."""

    def __init__(self, names: Sequence[str], tensors: Sequence[TensorCurvature], damping: float) -> None:
        self.names = names
        self._rank = torch.stack([tensor.rank.float().T for tensor in tensors])
        self._wide = torch.stack([spread_basis(tensor.wide, tensor.steps) for tensor in tensors])
        factors = [tensor.factors(damping) for tensor in tensors]
        self._top, self._rest = (torch.stack(part) for part in zip(*factors, strict=True))

    def __call__(self, gradients: Tensor) -> list[Tensor]:
        """(examples, tensors, rank, wide) to (examples, tensors, rank, columns), and to what is left."""
        rotated = self._rank @ gradients
        inside = rotated @ self._wide
        if not self._rest.numel():
            return [inside * self._top]
        rotated -= inside @ self._wide.mT
        return [inside * self._top, rotated * self._rest]


class Curvature:
    """An adapter's factors, by the names of its tensors."""

    def __init__(self, tensors: Mapping[str, TensorCurvature], damping: float = DAMPING) -> None:
        self.tensors = {name: tensors[name] for name in sorted(tensors)}
        self.damping = damping
        alike: dict[object, list[str]] = {}
        for name, tensor in self.tensors.items():
            alike.setdefault(tensor.shape, []).append(name)
        self._whiteners = [
            _Whitener(names, [tensors[name] for name in names], damping) for names in alike.values()
        ]

    @property
    def size(self) -> int:
        """Coordinates of a whitened gradient."""
        return sum(tensor.size for tensor in self.tensors.values())

    def whiten(self, gradients: Mapping[str, Tensor]) -> Tensor:
        """{tensor: (examples, out, in)} to (examples, size) float32, tensors in the order of their names; of
        each the columns' part, then the rest's, rank first."""
        parts: dict[str, list[Tensor]] = {}
        for whitener in self._whiteners:
            stacked = torch.stack([oriented(name, gradients[name]) for name in whitener.names], 1)
            for part in whitener(stacked):
                for number, name in enumerate(whitener.names):
                    parts.setdefault(name, []).append(part[:, number].flatten(1))
        return torch.cat([part for name in self.tensors for part in parts[name]], dim=1)


def round_basis(basis: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvectors (d, k) as they are stored: int8 and the float16 steps of the columns, (k,)."""
    steps = (basis.abs().amax(0) / _MOST_STEPS).half() if len(basis) else torch.zeros(basis.shape[1]).half()
    codes = (basis / steps.to(basis.dtype).clamp(min=1e-7)).round().clamp(-_MOST_STEPS, _MOST_STEPS)
    return codes.to(torch.int8), steps


def spread_basis(codes: Tensor, steps: Tensor) -> Tensor:
    """The eigenvectors that are stored, float32."""
    return codes.float() * steps.float()


def oriented(name: str, gradient: Tensor) -> Tensor:
    """A gradient (…, out, in) with its rank side first."""
    return gradient.transpose(-1, -2) if is_up(name) else gradient


def is_up(name: str) -> bool:
    """Whether this tensor leads from the rank up to the output."""
    return "lora_B" in name


def thin_and_wide(name: str, shape: tuple[int, int]) -> tuple[int, int]:
    """(rank, wide) of a tensor's shape (out, in)."""
    out, into = shape
    return (into, out) if is_up(name) else (out, into)


def pack_curvature(curvature: Curvature) -> bytes:
    """The factors as a safetensors file; its content id goes into the adapter's manifest."""
    tensors = list(curvature.tensors.values())
    columns = [-each.wide.shape[1] - 1 if each.rest.ndim > 1 else each.wide.shape[1] for each in tensors]
    arrays = {part: torch.cat([getattr(each, part).flatten() for each in tensors]) for part in _PARTS}
    arrays = {part: array for part, array in arrays.items() if array.numel()}
    arrays["gains"] = torch.tensor([each.gain for each in tensors])
    arrays["columns"] = torch.tensor(columns, dtype=torch.float32)
    return save(arrays, metadata={"format": f"{FORMAT}{curvature.damping!r}"})  # one key: their order varies


def read_curvature(path: Path, shapes: Shapes) -> Curvature:
    """The factors of an adapter with tensors of these shapes.

    Raises InvalidAdapter unless they fit it and are finite.
    """
    try:
        file = open_tensor_file(path, codes=True)
        said = file.metadata.get("format", "")
        columns = [int(each) for each in file.array("columns").tolist()]
        if not said.startswith(FORMAT) or len(columns) != len(shapes):
            raise InvalidAdapter(f"the curvature factors {path} are not those of this adapter")
        sides = [thin_and_wide(name, shapes[name]) for name in sorted(shapes)]
        tensors = _read_tensors(file, [_shapes_of(*each) for each in zip(sides, columns, strict=True)])
        damping = float(said.removeprefix(FORMAT))
    except OSError as wrong:
        raise InvalidAdapter(f"the curvature factors {path} cannot be read: {wrong.strerror}") from None
    except (Malformed, KeyError, ValueError, OverflowError) as wrong:
        raise InvalidAdapter(f"the curvature factors {path} are malformed: {wrong}") from None
    if not 0.0 < damping <= 1e3:
        raise InvalidAdapter(f"the curvature factors {path} have a damping of {damping}")
    return Curvature(dict(zip(sorted(shapes), tensors, strict=True)), damping)


def _shapes_of(sides: tuple[int, int], columns: int) -> dict[str, tuple[int, ...]]:
    """A tensor's parts, by what `columns` says of it."""
    rank, wide = sides
    kept, separable = (columns, True) if columns >= 0 else (-columns - 1, False)
    if kept > wide:
        raise ValueError(f"{kept} columns of {wide}")
    rest: tuple[int, ...] = (rank + wide,) if separable else (rank, wide)
    parts = (rank, rank), (wide, kept), (kept,), (rank, kept), (0,) if kept == wide else rest
    return dict(zip(_PARTS, parts, strict=True))


def _read_tensors(file: TensorFile, shapes: Sequence[Mapping[str, tuple[int, ...]]]) -> list[TensorCurvature]:
    whole = {part: _read_part(file, part, [each[part] for each in shapes]) for part in _PARTS}
    gains = file.array("gains").astype(np.float32)
    if gains.shape != (len(shapes),) or not np.isfinite(gains).all() or (gains < 0).any():
        raise ValueError("a gain is impossible")
    if any(bool((each < 0).any()) for part in ("steps", "top", "rest") for each in whole[part]):
        raise ValueError("a curvature is negative")
    return [
        TensorCurvature(**{part: whole[part][number] for part in _PARTS}, gain=gain)
        for number, gain in enumerate(gains.tolist())
    ]


def _read_part(file: TensorFile, part: str, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """One part of every tensor."""
    dtype = np.int8 if part == "wide" else np.float16
    sizes = [int(np.prod(shape)) for shape in shapes]
    array = file.array(part) if sum(sizes) else np.zeros(0, dtype)
    if array.shape != (sum(sizes),) or array.dtype != dtype:
        raise ValueError(
            f"{part} is {array.shape} {array.dtype}, not {sum(sizes)} numbers of {dtype.__name__}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{part} is not finite")
    pieces = np.split(array, np.cumsum(sizes)[:-1])
    return [
        torch.from_numpy(piece.reshape(shape).copy()) for piece, shape in zip(pieces, shapes, strict=True)
    ]


def as_ratio(curvature: Tensor, mean: float) -> Tensor:
    """Curvatures as they are stored."""
    return (curvature / mean if mean > 0 else torch.zeros_like(curvature)).clamp(0, _LARGEST_RATIO).half()
