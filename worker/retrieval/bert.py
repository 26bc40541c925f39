"""A BERT encoder's forward pass in numpy: for a small model that turns short texts into vectors.

Rules of this file: no torch, for who only asks has none, and a node never loads it. One text at a time,
fp32. The error function is Abramowitz and Stegun's 7.1.26 (1.5e-7), far below what vectors are rounded to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats32 = npt.NDArray[np.float32]
_EPSILON = 1e-12
_ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


@dataclass(frozen=True, slots=True, eq=False)
class Bert:
    """Weights by their names in the file; `heads` of each layer's attention."""

    weights: Mapping[str, Floats32]
    layers: int
    heads: int

    @classmethod
    def read(cls, folder: Path) -> Bert:
        """From a model's folder as transformers saves it, fp32. Raises OSError, ValueError, KeyError."""
        described = json.loads((folder / "config.json").read_bytes())
        weights = _read_tensors(folder / "model.safetensors")
        return cls(weights, described["num_hidden_layers"], described["num_attention_heads"])

    def states(self, ids: Sequence[int]) -> Floats32:
        """(tokens, hidden) of one text's ids."""
        embedded = self._of("embeddings.word_embeddings")[list(ids)]
        embedded = embedded + self._of("embeddings.position_embeddings")[: len(ids)]
        x = self._norm(embedded + self._of("embeddings.token_type_embeddings")[0], "embeddings.LayerNorm")
        for number in range(self.layers):
            layer = f"encoder.layer.{number}"
            attended = self._linear(
                self._attend(x, f"{layer}.attention.self"), f"{layer}.attention.output.dense"
            )
            x = self._norm(x + attended, f"{layer}.attention.output.LayerNorm")
            inner = _gelu(self._linear(x, f"{layer}.intermediate.dense"))
            x = self._norm(x + self._linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        return x

    def _attend(self, x: Floats32, path: str) -> Floats32:
        tokens, hidden = x.shape
        split = tokens, self.heads, hidden // self.heads
        q, k, v = (
            self._linear(x, f"{path}.{name}").reshape(split).swapaxes(0, 1)
            for name in ("query", "key", "value")
        )
        scores = q @ k.swapaxes(1, 2) / np.float32(split[2] ** 0.5)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed: Floats32 = ((weights / weights.sum(-1, keepdims=True)) @ v).swapaxes(0, 1)
        return mixed.reshape(tokens, hidden)

    def _linear(self, x: Floats32, path: str) -> Floats32:
        product: Floats32 = x @ self._of(path).T + self.weights[f"{path}.bias"]
        return product

    def _norm(self, x: Floats32, path: str) -> Floats32:
        centred = x - x.mean(-1, keepdims=True)
        scale = np.sqrt(np.square(centred).mean(-1, keepdims=True) + np.float32(_EPSILON))
        normed: Floats32 = centred / scale * self._of(path) + self.weights[f"{path}.bias"]
        return normed

    def _of(self, path: str) -> Floats32:
        return self.weights[f"{path}.weight"]


def _gelu(x: Floats32) -> Floats32:
    halved = x * np.float32(0.5)
    found: Floats32 = halved * (1 + _erf(x * np.float32(0.5**0.5)))
    return found


def _erf(x: Floats32) -> Floats32:
    magnitude = np.abs(x)
    t: Floats32 = (1 / (1 + np.float32(0.3275911) * magnitude)).astype(np.float32)
    series: Floats32 = np.zeros_like(x)
    for coefficient in reversed(_ERF):
        series = ((series + np.float32(coefficient)) * t).astype(np.float32)
    return (np.sign(x) * (1 - series * np.exp(-np.square(magnitude)))).astype(np.float32)


def _read_tensors(path: Path) -> dict[str, Floats32]:
    """The float32 tensors of a file that an installed package brought."""
    content = np.memmap(path, np.uint8, "r")
    length = int(content[:8].view("<u8")[0])
    header = json.loads(content[8 : 8 + length].tobytes())
    spans = {name: span for name, span in header.items() if name != "__metadata__" and span["dtype"] == "F32"}
    found: dict[str, Floats32] = {}
    for name, span in spans.items():
        start, end = (8 + length + place for place in span["data_offsets"])
        found[name] = np.frombuffer(content[start:end].tobytes(), "<f4").reshape(span["shape"])
    return found
