"""Reference weights as a decoder wants them: query, key and value fused, gate and up fused, at one precision.

Rules of this file:
- `Linear` and `Int4Linear` are the places where torch multiplies by a base weight.
- One tensor of the file is in memory at a time beside what is kept; nothing keeps the file open.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.architecture import Architecture
from ...models.tensor_file import TensorFile
from .devices import CPU
from .int4 import GROUP, Quantised, dequantise, quantise

log = logging.getLogger("commonlore.worker.engine")

FUSED = {
    "qkv": ("q_proj", "k_proj", "v_proj"),
    "o": ("o_proj",),
    "gate_up": ("gate_proj", "up_proj"),
    "down": ("down_proj",),
}
"""The decoder's linears and the file's linears that each holds, in the order of their outputs."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int4": torch.bfloat16}
"""Precision → what activations, keys and values are computed in."""


@dataclass(frozen=True, slots=True)
class Linear:
    """y = x Wᵀ + b; weight is [out, in]."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class Int4Linear:
    """The same in four bits (`int4.py`), by the operators that torch has for it on CPUs and on CUDA.

    They keep a group's scale and zero in bf16, so results differ from exact ones by bf16's rounding.
    """

    packed: Tensor
    scales_and_zeros: Tensor
    bias: Tensor | None = None

    @classmethod
    def pack(cls, quantised: Quantised, bias: Tensor | None, device: torch.device = CPU) -> Int4Linear:
        """Numbers that lie on the CPU, for this device.

        Raises RuntimeError where torch has no operator for this device or shape.
        """
        scales, minima = quantised.scales.float(), quantised.minima.float()
        both = torch.stack((scales, minima + 8 * scales), -1).permute(1, 0, 2).contiguous()
        convert = _packed_on_cpu if device.type == "cpu" else _packed_on_cuda
        packed = convert(quantised.nibbles.to(device))
        return cls(packed, both.to(device, torch.bfloat16), bias)

    def __call__(self, x: Tensor) -> Tensor:
        out: Tensor
        if self.packed.is_cpu:
            out = torch.ops.aten._weight_int4pack_mm_for_cpu(x, self.packed, GROUP, self.scales_and_zeros)
        else:
            x = x.contiguous()
            out = torch.ops.aten._weight_int4pack_mm(x, self.packed, GROUP, self.scales_and_zeros)
        return out if self.bias is None else out + self.bias


def _packed_on_cpu(nibbles: Tensor) -> Tensor:
    packed: Tensor = torch.ops.aten._convert_weight_to_int4pack_for_cpu(nibbles.int(), 1)
    return packed


def _packed_on_cuda(nibbles: Tensor) -> Tensor:
    """Two nibbles a byte, the first in the high half, as torch's conversion for tensor cores takes them."""
    tiles = next((tiles for tiles in (8, 4, 2) if nibbles.shape[1] % (16 * tiles) == 0), 0)
    if len(nibbles) % 8 or not tiles:
        raise RuntimeError(f"weights of {tuple(nibbles.shape)}; it takes multiples of 8 by 32")
    pairs = (16 * nibbles[:, ::2] + nibbles[:, 1::2]).contiguous()
    packed: Tensor = torch.ops.aten._convert_weight_to_int4pack(pairs, tiles)
    return packed


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer. `query_norm` and `key_norm` are RMSNorm weights of a head (Qwen3) or None."""

    input_norm: Tensor
    mlp_norm: Tensor
    qkv: Linear | Int4Linear
    o: Linear | Int4Linear
    gate_up: Linear | Int4Linear
    down: Linear | Int4Linear
    query_norm: Tensor | None
    key_norm: Tensor | None


@dataclass(frozen=True, slots=True)
class Weights:
    """A whole base."""

    embedding: Tensor
    layers: tuple[Layer, ...]
    norm: Tensor
    head: Linear


class WeightReader:
    """A base's weights, read from its file part by part at `dtype`, onto `device`.

    Every method raises Malformed when the file is cut meanwhile.
    """

    def __init__(
        self, file: TensorFile, architecture: Architecture, dtype: torch.dtype, device: torch.device = CPU
    ) -> None:
        self.architecture = architecture
        self._file = file
        self._dtype = dtype
        self._device = device

    def embedding(self) -> Tensor:
        """[vocabulary, hidden]."""
        return self._tensor("model.embed_tokens.weight")

    def norm(self) -> Tensor:
        """[hidden]."""
        return self._tensor("model.norm.weight")

    def head(self, embedding: Tensor) -> Linear:
        """The output projection, which is the embedding where the base ties them."""
        return Linear(embedding if self.architecture.tied else self._tensor("lm_head.weight"))

    def layer(self, index: int) -> Layer:
        """One decoder layer."""
        prefix = f"model.layers.{index}."
        return Layer(
            input_norm=self._tensor(f"{prefix}input_layernorm.weight"),
            mlp_norm=self._tensor(f"{prefix}post_attention_layernorm.weight"),
            qkv=self._linear(prefix, "self_attn", "qkv"),
            o=self._linear(prefix, "self_attn", "o"),
            gate_up=self._linear(prefix, "mlp", "gate_up"),
            down=self._linear(prefix, "mlp", "down"),
            query_norm=self._optional(f"{prefix}self_attn.q_norm.weight"),
            key_norm=self._optional(f"{prefix}self_attn.k_norm.weight"),
        )

    def _tensor(self, name: str) -> Tensor:
        return torch.from_numpy(self._file.array(name)).to(self._device, self._dtype)

    def _optional(self, name: str) -> Tensor | None:
        return self._tensor(name) if name in self._file.tensors else None

    def _linear(self, prefix: str, block: str, fused: str) -> Linear:
        names = [f"{prefix}{block}.{part}" for part in FUSED[fused]]
        weight = torch.cat([self._tensor(f"{name}.weight") for name in names])
        if not any(f"{name}.bias" in self._file.tensors for name in names):
            return Linear(weight)
        biases = (self._optional(f"{name}.bias") for name in names)
        sizes = (self._file.tensors[f"{name}.weight"].shape[0] for name in names)
        filled = [
            torch.zeros(n, dtype=self._dtype, device=self._device) if b is None else b
            for b, n in zip(biases, sizes, strict=True)
        ]
        return Linear(weight, torch.cat(filled))


def load_weights(
    file: TensorFile, architecture: Architecture, precision: str, device: torch.device = CPU
) -> Weights:
    """Read a base's weights for torch at fp32, bf16 or int4.

    Raises Malformed when the file is cut meanwhile.
    """
    reader = WeightReader(file, architecture, DTYPES[precision], device)
    embedding = reader.embedding()
    layers = (reader.layer(index) for index in range(architecture.layers))
    if precision == "int4":
        exact = WeightReader(file, architecture, torch.float32)  # quantised on the CPU: everywhere the same
        layers = (in_four_bits(exact.layer(index), device) for index in range(architecture.layers))
    return Weights(embedding, tuple(layers), reader.norm(), reader.head(embedding))


def in_four_bits(layer: Layer, device: torch.device = CPU) -> Layer:
    """A float32 layer on the CPU with its linears in int4, the rest in bf16, on this device."""
    changes: dict[str, Tensor | Linear | Int4Linear] = {}
    for name in FUSED:
        linear = getattr(layer, name)
        changes[name] = four_bit_linear(quantise(linear.weight), _narrow(linear.bias, device), device)
    for name in ("input_norm", "mlp_norm", "query_norm", "key_norm"):
        narrow = _narrow(getattr(layer, name), device)
        if narrow is not None:
            changes[name] = narrow
    return replace(layer, **changes)  # type: ignore[arg-type]


def four_bit_linear(quantised: Quantised, bias: Tensor | None, device: torch.device) -> Linear | Int4Linear:
    """In four bits; where torch fails at that on this GPU, the same numbers spread to bf16."""
    try:
        linear = Int4Linear.pack(quantised, bias, device)
        linear(torch.zeros(1, GROUP * quantised.scales.shape[1], dtype=torch.bfloat16, device=device))
    except (RuntimeError, NotImplementedError) as wrong:
        if device.type == "cpu":
            raise
        log.warning("torch does not multiply in four bits here; weights take four times the room: %s", wrong)
        return Linear(dequantise(quantised).to(device, torch.bfloat16), bias)
    return linear


def _narrow(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    return None if tensor is None else tensor.to(device, torch.bfloat16)
