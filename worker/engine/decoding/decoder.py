"""The Llama family's decoder over a flat batch: every row is one token of some sequence, at its own position.

Rules of this file:
- Linears see all rows at once; what a row attends to is `attention.py`'s matter, what its adapters add is
  `lora.py`'s.
- The mathematics is transformers' modeling_llama (RMSNorm, rotary halves, grouped heads, SwiGLU); tests hold
  the logits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.architecture import Architecture, Rope
from ..lora.plan import LoraPlan
from ..lora.torch_lora import LoraBatch
from ..memory.weights import Layer, Weights
from .attention import Attention
from .cache import KvCache


class Updates(Protocol):
    """What one step's adapters add."""

    def add(self, layer: int, linear: str, x: Tensor, out: Tensor) -> None:
        """out += the low-rank update of x. x is [rows, in], out [rows, out], changed in place."""
        ...


class Lora(Protocol):
    """The adapters' multiplication: `TorchLora`, or Triton's kernels."""

    def bind(self, plan: LoraPlan) -> Updates:
        """The plan, ready to multiply until the slots change."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's input.

    `tokens`, `positions` and cache `slots` are int64 [rows]; `wanted` are the rows whose logits matter.
    """

    tokens: Tensor
    positions: Tensor
    slots: Tensor
    attention: Attention
    wanted: Tensor


@dataclass(frozen=True, slots=True)
class _Step:
    """What every layer of one forward pass shares. `rotary`: cosines and sines, each [rows, 1, head_dim]."""

    batch: Batch
    cache: KvCache
    lora: Updates
    rotary: tuple[Tensor, Tensor]


class Decoder:
    """A base's weights and arithmetic for positions below `max_context`.

    Keys and values live in the cache it is given, adapters in the slots of `lora`.
    """

    def __init__(
        self, architecture: Architecture, weights: Weights, max_context: int, lora: Lora | None = None
    ) -> None:
        self.architecture = architecture
        self.weights = weights
        self._lora = lora
        tables = rotary_tables(architecture, max_context, weights.embedding.dtype)
        self._cosines, self._sines = (table.to(weights.embedding.device) for table in tables)

    @torch.inference_mode()
    def forward(self, batch: Batch, cache: KvCache, plan: LoraPlan) -> Tensor:
        """Logits, float32 [wanted rows, vocabulary]."""
        rotary = (self._cosines[batch.positions].unsqueeze(1), self._sines[batch.positions].unsqueeze(1))
        lora = LoraBatch() if self._lora is None else self._lora.bind(plan)
        step = _Step(batch, cache, lora, rotary)
        hidden = F.embedding(batch.tokens, self.weights.embedding)
        for index, layer in enumerate(self.weights.layers):
            hidden = hidden + self._attend(index, layer, hidden, step)
            hidden = hidden + self._mlp(index, layer, hidden, step)
        return self.weights.head(self._norm(hidden[batch.wanted], self.weights.norm)).float()

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight, self.architecture.norm_epsilon)

    def _attend(self, index: int, layer: Layer, hidden: Tensor, step: _Step) -> Tensor:
        a = self.architecture
        x = self._norm(hidden, layer.input_norm)
        mixed = layer.qkv(x)
        step.lora.add(index, "qkv", x, mixed)
        heads = mixed.view(len(x), a.heads + 2 * a.kv_heads, a.head_dim)
        queries, keys, values = torch.split(heads, [a.heads, a.kv_heads, a.kv_heads], dim=1)
        if layer.query_norm is not None and layer.key_norm is not None:
            queries, keys = self._norm(queries, layer.query_norm), self._norm(keys, layer.key_norm)
        queries, keys = rotate(queries, step.rotary), rotate(keys, step.rotary)
        step.cache.write(index, step.batch.slots, keys, values)
        attended = step.batch.attention.attend(index, queries, step.cache)
        out = layer.o(attended)
        step.lora.add(index, "o", attended, out)
        return out

    def _mlp(self, index: int, layer: Layer, hidden: Tensor, step: _Step) -> Tensor:
        x = self._norm(hidden, layer.mlp_norm)
        mixed = layer.gate_up(x)
        step.lora.add(index, "gate_up", x, mixed)
        gate, up = mixed.chunk(2, dim=-1)
        x = F.silu(gate) * up
        out = layer.down(x)
        step.lora.add(index, "down", x, out)
        return out


# ---- rotary position embedding (https://arxiv.org/abs/2104.09864)


def rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Turn the two halves of each head [rows, heads, head_dim] by its row's angles."""
    cosine, sine = rotary
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat((-second, first), dim=-1) * sine


def rotary_tables(architecture: Architecture, positions: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each [positions, head_dim]."""
    angles = torch.arange(positions).float()[:, None] * _frequencies(architecture)[None]
    both = torch.cat((angles, angles), dim=-1)
    return both.cos().to(dtype), both.sin().to(dtype)


def _frequencies(architecture: Architecture) -> Tensor:
    rope, size = architecture.rope, architecture.head_dim
    frequencies = 1.0 / (rope.theta ** (torch.arange(0, size, 2).float() / size))
    if rope.kind == "linear":
        return frequencies / rope.factor
    return _llama3_frequencies(frequencies, rope) if rope.kind == "llama3" else frequencies


def _llama3_frequencies(frequencies: Tensor, rope: Rope) -> Tensor:
    """Low frequencies divided by `factor`, high ones kept, those between blended (Llama 3.1)."""
    turns = rope.original_positions * frequencies / (2 * math.pi)
    smooth = (turns - rope.low_frequency_factor) / (rope.high_frequency_factor - rope.low_frequency_factor)
    smooth = smooth.clamp(0.0, 1.0)
    return (1 - smooth) * frequencies / rope.factor + smooth * frequencies
