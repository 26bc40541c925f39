"""How an adapter lies in a slot that `lora.h` reads: one flat bf16 array, layer after layer.

A layer holds for each target, in the order of `structures.TARGETS`, A as [rank / 8][in / 32][8][32], then B
as [out / 16][rank / 2][16][2], so that both are read forwards once a row. The rank is the bucket's, outputs
are padded to a multiple of 16; what an adapter does not have is zero, and skipped. alpha / rank is in B.
"""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.architecture import Architecture, linear_shapes
from ...models.tensor_file import TensorFile
from ..lora.layout import Blanks, LoraLayout, factor_names, read_factor
from ..types import AdapterSource
from .library import load_library
from .structures import TARGETS, Packing

_LANES = 16


class NativeLoraLayout(LoraLayout):
    """Factors as the compiled library reads them."""

    dtype = torch.bfloat16

    def __init__(self, architecture: Architecture) -> None:
        self._layers = architecture.layers
        self._shapes = linear_shapes(architecture)
        self._blanks = Blanks()

    def size(self, bucket: int) -> int:
        """See LoraLayout."""
        return self._layers * self.offsets(bucket)[1]

    def offsets(self, bucket: int) -> tuple[list[int], int]:
        """Where each target begins in a layer, and a layer's size, in numbers."""
        offsets, size = [], 0
        for target in TARGETS:
            outputs, inputs = self._shapes[target]
            offsets.append(size)
            size += bucket * (inputs + _padded(outputs))
        return offsets, size

    def find_next(self) -> None:
        """See LoraLayout."""
        self._blanks.find_next()

    @property
    def spare_bytes(self) -> int:
        """See LoraLayout."""
        return self._blanks.bytes

    def pack(self, file: TensorFile, source: AdapterSource) -> Tensor:
        """See LoraLayout. Files in bf16, which is what is published, take the fast way."""
        if file.content is not None and all(span.dtype == "BF16" for span in file.tensors.values()):
            return self._pack_compiled(file, file.content, source)
        return self.pack_any(file, source)

    def _pack_compiled(
        self, file: TensorFile, content: npt.NDArray[np.uint8], source: AdapterSource
    ) -> Tensor:
        bucket = self.bucket_of(source)
        offsets, size = self.offsets(bucket)
        packed = self._blanks.take(self._layers * size, self.dtype)
        places = np.full((self._layers, len(TARGETS), 2), -1, np.int64)
        for index, target in enumerate(TARGETS):
            if target in source.targets:
                for side, letter in enumerate("AB"):
                    names = factor_names(self._layers, target, letter)
                    places[:, index, side] = [file.tensors[name].start for name in names]
        inputs, outputs = (
            np.array([self._shapes[target][side] for target in TARGETS], np.int32) for side in (1, 0)
        )
        starts = np.array(offsets, np.int64)
        packing = Packing(
            file=content.ctypes.data,
            places=places.ctypes.data,
            inputs=inputs.ctypes.data,
            outputs=outputs.ctypes.data,
            offsets=starts.ctypes.data,
            slot=packed.data_ptr(),
            layer_size=size,
            layers=self._layers,
            rank=source.rank,
            bucket=bucket,
            scale=source.alpha / source.rank,
        )
        load_library().commonlore_pack(ctypes.byref(packing))
        return packed

    def pack_any(self, file: TensorFile, source: AdapterSource) -> Tensor:
        """The same of a file in any precision, by torch."""
        bucket = self.bucket_of(source)
        offsets, size = self.offsets(bucket)
        packed = self._blanks.take(self._layers * size, self.dtype).view(self._layers, size)
        for target, offset in zip(TARGETS, offsets, strict=True):
            if target in source.targets:
                down, up = (read_factor(file, self._layers, target, side) for side in "AB")
                flat = pack_target(down, scaled(up, source.alpha / source.rank), bucket)
                packed[:, offset : offset + flat.shape[1]] = flat
        return packed.flatten()


def _padded(outputs: int) -> int:
    return -(-outputs // _LANES) * _LANES


def scaled(up: Tensor, scale: float) -> Tensor:
    """B times alpha / rank in bf16; a power of two changes no digit and needs no detour through 32 bits."""
    if up.dtype == torch.bfloat16 and scale.hex().startswith("0x1.0000000000000p"):
        return up * scale
    return (up.float() * scale).to(torch.bfloat16)


def pack_target(down: Tensor, up: Tensor, bucket: int) -> Tensor:
    """A [layers, rank, in] and B [layers, out, rank] as bf16 [layers, numbers]."""
    wide = bucket - down.shape[1]
    a = F.pad(down.to(torch.bfloat16), (0, 0, 0, wide))
    b = F.pad(up.to(torch.bfloat16), (0, wide, 0, _padded(up.shape[1]) - up.shape[1]))
    layers, _, inputs = a.shape
    a = a.view(layers, bucket // 8, 8, inputs // 32, 32).transpose(2, 3)
    b = b.view(layers, -1, _LANES, bucket // 2, 2).transpose(2, 3)
    return torch.cat((a.reshape(layers, -1), b.reshape(layers, -1)), 1)
