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
- What is stored is float16, curvatures as ratios to their tensor's mean; whoever loads the same bytes whitens
  alike. A file is bounded and checked like everything that strangers publish.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from ...protocol.errors import InvalidAdapter
from ..models.tensor_file import Malformed, TensorFile, open_tensor_file

FORMAT = "commonlore/curvature/1 damping "
DAMPING = 0.1
"""Chosen on other data and seeds than those it is reported on."""
_LARGEST_RATIO = 60_000.0
_HEADER_BYTES_PER_TENSOR = 320
_PARTS = ("rank", "wide", "top", "rest")
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
    room = 2 * rank * wide - rank * rank - wide - rank - _HEADER_BYTES_PER_TENSOR // 2
    return max(0, min(wide, room // (wide + rank)))


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
    """Of one tensor: bases, and curvatures as ratios to their mean, all float16.

    `rank` (r, r) and `wide` (d, k) hold eigenvectors in columns, `top` is (r, k). `rest` is (r, d), or (r +
    d,) where it is separable, or empty where the wide basis is whole.
    """

    rank: Tensor
    wide: Tensor
    top: Tensor
    rest: Tensor
    gain: float
    """1 / sqrt(mean curvature); 0 where no gradient was ever seen."""

    @property
    def size(self) -> int:
        """Coordinates of a whitened gradient."""
        return self.top.numel() + (len(self.rank) * len(self.wide) if self.rest.numel() else 0)

    def ready(self, damping: float) -> _Whitener:
        """As float32, to compute with."""
        rank, wide, top = self.rank.float(), self.wide.float().contiguous(), self.top.float()
        rest = self.rest.float()
        if rest.ndim == 1 and rest.numel():
            rest = torch.outer(rest[: len(rank)], rest[len(rank) :])
        scale = self.gain * (top + damping).rsqrt(), self.gain * (rest + damping).rsqrt()
        return _Whitener(rank.T.contiguous(), wide, *scale)


@dataclass(frozen=True, slots=True, eq=False)
class _Whitener:
    rank: Tensor
    wide: Tensor
    top: Tensor
    rest: Tensor

    def __call__(self, gradients: Tensor) -> Tensor:
        """(examples, rank, wide) to (examples, size)."""
        rotated = self.rank @ gradients
        inside = rotated @ self.wide
        if not self.rest.numel():
            return (inside * self.top).flatten(1)
        left = rotated - inside @ self.wide.T
        return torch.cat([(inside * self.top).flatten(1), (left * self.rest).flatten(1)], dim=1)


class Curvature:
    """An adapter's factors, by the names of its tensors."""

    def __init__(self, tensors: Mapping[str, TensorCurvature], damping: float = DAMPING) -> None:
        self.tensors = {name: tensors[name] for name in sorted(tensors)}
        self.damping = damping
        self._whiteners = {name: tensor.ready(damping) for name, tensor in self.tensors.items()}

    @property
    def size(self) -> int:
        """Coordinates of a whitened gradient."""
        return sum(tensor.size for tensor in self.tensors.values())

    def whiten(self, gradients: Mapping[str, Tensor]) -> Tensor:
        """{tensor: (examples, out, in)} to (examples, size) float32, tensors in the order of their names."""
        parts = [whiten(oriented(name, gradients[name])) for name, whiten in self._whiteners.items()]
        return torch.cat(parts, dim=1)


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
    arrays = {"gains": torch.tensor([each.gain for each in curvature.tensors.values()])}
    for number, tensor in enumerate(curvature.tensors.values()):
        arrays |= {f"{number}.{part}": getattr(tensor, part).contiguous() for part in _PARTS}
    arrays = {name: array for name, array in arrays.items() if array.numel()}
    return save(arrays, metadata={"format": f"{FORMAT}{curvature.damping!r}"})  # one key: their order varies


def read_curvature(path: Path, shapes: Shapes) -> Curvature:
    """The factors of an adapter with tensors of these shapes.

    Raises InvalidAdapter unless they fit it and are finite.
    """
    try:
        file = open_tensor_file(path)
        gains = torch.from_numpy(file.array("gains").astype(np.float32)).tolist()
        said = file.metadata.get("format", "")
        if not said.startswith(FORMAT) or len(gains) != len(shapes):
            raise InvalidAdapter(f"the curvature factors {path} are not those of this adapter")
        tensors = {
            name: _read_tensor(file, number, thin_and_wide(name, shapes[name]), gains[number])
            for number, name in enumerate(sorted(shapes))
        }
        damping = float(said.removeprefix(FORMAT))
    except OSError as wrong:
        raise InvalidAdapter(f"the curvature factors {path} cannot be read: {wrong.strerror}") from None
    except (Malformed, KeyError, ValueError) as wrong:
        raise InvalidAdapter(f"the curvature factors {path} are malformed: {wrong}") from None
    if not 0.0 < damping <= 1e3:
        raise InvalidAdapter(f"the curvature factors {path} have a damping of {damping}")
    return Curvature(tensors, damping)


def _read_tensor(file: TensorFile, number: int, sides: tuple[int, int], gain: float) -> TensorCurvature:
    rank, wide = sides
    columns = file.tensors[f"{number}.wide"].shape[-1] if f"{number}.wide" in file.tensors else 0
    separable = len(file.tensors[f"{number}.rest"].shape) == 1 if f"{number}.rest" in file.tensors else False
    rest: tuple[int, ...] = (0,) if columns >= wide else ((rank + wide,) if separable else (rank, wide))
    expected = {"rank": (rank, rank), "wide": (wide, columns), "top": (rank, columns), "rest": rest}
    parts = {part: _read_part(file, f"{number}.{part}", shape) for part, shape in expected.items()}
    if not np.isfinite(gain) or gain < 0 or bool((parts["top"] < 0).any() or (parts["rest"] < 0).any()):
        raise ValueError(f"tensor {number} has an impossible curvature")
    return TensorCurvature(**parts, gain=gain)


def _read_part(file: TensorFile, name: str, shape: tuple[int, ...]) -> Tensor:
    if 0 in shape:
        return torch.zeros(shape, dtype=torch.float16)
    if file.tensors[name].shape != shape:
        raise ValueError(f"{name} has the shape {file.tensors[name].shape}, not {shape}")
    array = file.array(name).astype(np.float16)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} is not finite")
    return torch.from_numpy(array)


def as_ratio(curvature: Tensor, mean: float) -> Tensor:
    """Curvatures as they are stored."""
    return (curvature / mean if mean > 0 else torch.zeros_like(curvature)).clamp(0, _LARGEST_RATIO).half()
