"""Reference weights as the decoder wants them: query, key and value fused, gate and up fused, at one
precision.

Rules of this file:
- `Linear` is the one place that multiplies by a base weight: another storage (int4, prepacked) is another
  class with the same call.
- One tensor of the file is in memory at a time beside what is kept; nothing keeps the file open.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.architecture import Architecture
from ..models.tensor_file import TensorFile

FUSED = {
    "qkv": ("q_proj", "k_proj", "v_proj"),
    "o": ("o_proj",),
    "gate_up": ("gate_proj", "up_proj"),
    "down": ("down_proj",),
}
"""The decoder's linears and the file's linears that each holds, in the order of their outputs."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Linear:
    """y = x Wᵀ + b; weight is [out, in]."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer. `query_norm` and `key_norm` are RMSNorm weights of a head (Qwen3) or None."""

    input_norm: Tensor
    mlp_norm: Tensor
    qkv: Linear
    o: Linear
    gate_up: Linear
    down: Linear
    query_norm: Tensor | None
    key_norm: Tensor | None


@dataclass(frozen=True, slots=True)
class Weights:
    """A whole base. The head is the embedding where the base ties them."""

    embedding: Tensor
    layers: tuple[Layer, ...]
    norm: Tensor
    head: Linear


class _Reader:
    def __init__(self, file: TensorFile, dtype: torch.dtype) -> None:
        self.file = file
        self.dtype = dtype

    def tensor(self, name: str) -> Tensor:
        return torch.from_numpy(self.file.array(name)).to(self.dtype)

    def optional(self, name: str) -> Tensor | None:
        return self.tensor(name) if name in self.file.tensors else None

    def linear(self, prefix: str, block: str, fused: str) -> Linear:
        names = [f"{prefix}{block}.{part}" for part in FUSED[fused]]
        weight = torch.cat([self.tensor(f"{name}.weight") for name in names])
        if not any(f"{name}.bias" in self.file.tensors for name in names):
            return Linear(weight)
        biases = (self.optional(f"{name}.bias") for name in names)
        sizes = (self.file.tensors[f"{name}.weight"].shape[0] for name in names)
        filled = [
            torch.zeros(n, dtype=self.dtype) if b is None else b for b, n in zip(biases, sizes, strict=True)
        ]
        return Linear(weight, torch.cat(filled))

    def layer(self, index: int) -> Layer:
        prefix = f"model.layers.{index}."
        return Layer(
            input_norm=self.tensor(f"{prefix}input_layernorm.weight"),
            mlp_norm=self.tensor(f"{prefix}post_attention_layernorm.weight"),
            qkv=self.linear(prefix, "self_attn", "qkv"),
            o=self.linear(prefix, "self_attn", "o"),
            gate_up=self.linear(prefix, "mlp", "gate_up"),
            down=self.linear(prefix, "mlp", "down"),
            query_norm=self.optional(f"{prefix}self_attn.q_norm.weight"),
            key_norm=self.optional(f"{prefix}self_attn.k_norm.weight"),
        )


def load_weights(file: TensorFile, architecture: Architecture, precision: str) -> Weights:
    """Read a base's weights at fp32 or bf16. Raises Malformed when the file is cut meanwhile."""
    reader = _Reader(file, DTYPES[precision])
    embedding = reader.tensor("model.embed_tokens.weight")
    return Weights(
        embedding=embedding,
        layers=tuple(reader.layer(index) for index in range(architecture.layers)),
        norm=reader.tensor("model.norm.weight"),
        head=Linear(embedding if architecture.tied else reader.tensor("lm_head.weight")),
    )
