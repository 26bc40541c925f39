"""Reference weights as a decoder wants them: query, key and value fused, gate and up fused, at one precision.

Rules of this file:
- `Linear` and `Int4Linear` are the places where torch multiplies by a base weight.
- One tensor of the file is in memory at a time beside what is kept; nothing keeps the file open.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.architecture import Architecture
from ..models.tensor_file import TensorFile
from .int4 import GROUP, quantise

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
    """The same in four bits (`int4.py`), by the operator that torch has for it on CPUs and CUDA.

    torch keeps a group's scale and zero in bf16, so results differ from exact ones by bf16's rounding.
    """

    packed: Tensor
    scales_and_zeros: Tensor
    bias: Tensor | None = None

    @classmethod
    def pack(cls, linear: Linear) -> Int4Linear:
        """Quantise; on the CPU."""
        quantised = quantise(linear.weight)
        scales, minima = quantised.scales.float(), quantised.minima.float()
        both = torch.stack((scales, minima + 8 * scales), -1).permute(1, 0, 2).contiguous()
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(quantised.nibbles.int(), 1)
        return cls(packed, both.to(torch.bfloat16), linear.bias)

    def __call__(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(x, self.packed, GROUP, self.scales_and_zeros)
        return out if self.bias is None else out + self.bias


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
    """A base's weights, read from its file part by part at `dtype`.

    Every method raises Malformed when the file is cut meanwhile.
    """

    def __init__(self, file: TensorFile, architecture: Architecture, dtype: torch.dtype) -> None:
        self.architecture = architecture
        self._file = file
        self._dtype = dtype

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
        return torch.from_numpy(self._file.array(name)).to(self._dtype)

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
            torch.zeros(n, dtype=self._dtype) if b is None else b for b, n in zip(biases, sizes, strict=True)
        ]
        return Linear(weight, torch.cat(filled))


def load_weights(file: TensorFile, architecture: Architecture, precision: str) -> Weights:
    """Read a base's weights for torch at fp32, bf16 or int4.

    Raises Malformed when the file is cut meanwhile.
    """
    reader = WeightReader(file, architecture, DTYPES[precision])
    embedding = reader.embedding()
    layers = (reader.layer(index) for index in range(architecture.layers))
    if precision == "int4":
        exact = WeightReader(file, architecture, torch.float32)
        layers = (in_four_bits(exact.layer(index)) for index in range(architecture.layers))
    return Weights(embedding, tuple(layers), reader.norm(), reader.head(embedding))


def in_four_bits(layer: Layer) -> Layer:
    """A float32 layer with its linears in int4, the rest in bf16."""
    changes: dict[str, Tensor | Int4Linear] = {}
    for name in FUSED:
        linear = getattr(layer, name)
        changes[name] = Int4Linear.pack(Linear(linear.weight, _narrow(linear.bias)))
    for name in ("input_norm", "mlp_norm", "query_norm", "key_norm"):
        narrow = _narrow(getattr(layer, name))
        if narrow is not None:
            changes[name] = narrow
    return replace(layer, **changes)  # type: ignore[arg-type]


def _narrow(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.to(torch.bfloat16)
