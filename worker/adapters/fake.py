"""Adapters of pseudo-random numbers: real files in every respect but sense, for tests and measurements.

Rules of this file: the same arguments give the same bytes on every machine; the names are peft's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ...protocol.ids import Cid, cid_of
from ..engine.types import AdapterSource
from ..models.architecture import LINEARS, Architecture
from ..models.tensor_file import PendingTensor, write_tensor_file
from .validate import adapter_shapes


def write_fake_adapter(
    path: Path, architecture: Architecture, rank: int = 8, targets: Sequence[str] = LINEARS, seed: int = 0
) -> AdapterSource:
    """Write an adapter whose update is large enough to change what the base says; describe it."""
    source = AdapterSource(_cid(seed, rank, targets), str(path), rank, 2 * rank, tuple(targets))
    shapes = adapter_shapes(architecture, source)
    tensors = [
        PendingTensor(name, "F32", shape, partial(_numbers, seed, name, shape))
        for name, shape in shapes.items()
    ]
    write_tensor_file(path, tensors)
    return source


def _cid(seed: int, rank: int, targets: Sequence[str]) -> Cid:
    return cid_of(f"fake adapter {seed} {rank} {' '.join(targets)}".encode())


def _numbers(seed: int, name: str, shape: tuple[int, int]) -> bytes:
    stream = hashlib.shake_256(f"{seed}/{name}".encode()).digest(2 * shape[0] * shape[1])
    uniform = np.frombuffer(stream, dtype="<u2").astype(np.float32) / 32768.0 - 1.0
    return (uniform * np.float32((1.0 / shape[1]) ** 0.5)).astype("<f4").tobytes()
