"""A base packed for the compiled library, its cache, and one forward pass over a step's rows.

Rules of this file:
- Everything that the library reads is kept alive here, and everything is checked before it is handed over:
  C++ believes its caller.
- Batch neighbours, prefill or decode, and the number of threads change no bit of a row's logits.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...models.architecture import Architecture
from ..decoding.decoder import rotary_tables
from ..memory.int4 import GROUP
from ..memory.streamed import Arena, zeros
from ..memory.weights import Int4Linear, Layer, Linear, WeightReader
from . import structures as c
from .library import load_library
from .packing import pack_bf16, pack_int4, padded

PAGE_SIZE = 16
MAX_GROUP = 16
MAX_HEAD = 256
_KINDS = {"bf16": 0, "int4": 1}


@dataclass(frozen=True, slots=True)
class Rows:
    """One step's input as int32 arrays.

    `tokens`, `positions`, `sequences` are [rows]; `tables` is [sequences, width] of pages; `wanted` are the
    rows whose logits matter, ascending. `lora_starts` is [rows + 1] into `lora_items`, and these are indices
    of `lows`.
    """

    tokens: npt.NDArray[np.int32]
    positions: npt.NDArray[np.int32]
    sequences: npt.NDArray[np.int32]
    tables: npt.NDArray[np.int32]
    wanted: npt.NDArray[np.int32]
    lora_starts: npt.NDArray[np.int32]
    lora_items: npt.NDArray[np.int32]
    lows: Sequence[c.Low]


def suits(architecture: Architecture, page_size: int) -> str | None:
    """Why the library cannot compute this shape of model; None when it can."""
    a = architecture
    if page_size != PAGE_SIZE:
        return f"pages of {page_size} tokens; it has {PAGE_SIZE}"
    if any(size % GROUP for size in (a.hidden, a.intermediate, a.query_size)):
        return f"sizes that are not multiples of {GROUP}"
    if a.head_dim % 16 or a.head_dim > MAX_HEAD or a.heads // a.kv_heads > MAX_GROUP:
        return f"heads of {a.head_dim} numbers, {a.heads // a.kv_heads} to a key head"
    return None


class PackedModel:
    """Weights at bf16 or int4 and the pages of keys and values (bf16)."""

    def __init__(self, base: WeightReader, precision: str, pages: int, max_context: int) -> None:
        """Read and pack a base (`base` gives float32), a layer at a time. Raises Unavailable, Malformed."""
        self._library = load_library()
        self._arena = Arena()
        self._alive: list[Tensor] = []  # whose memory C++ reads
        self._architecture = architecture = base.architecture
        self._kind = precision
        layers = (self._layer(base.layer(index)) for index in range(architecture.layers))
        self._layers = (c.Layer * architecture.layers)(*layers)
        shape = (architecture.layers, pages, architecture.kv_heads, PAGE_SIZE * architecture.head_dim)
        self.keys, self.values = (zeros(shape, torch.bfloat16) for _ in range(2))
        self._model = self._describe(base, max_context)
        self._logits = np.empty((0, padded(architecture.vocabulary)), np.float32)

    def forward(self, rows: Rows) -> npt.NDArray[np.float32]:
        """Logits, float32 [wanted, vocabulary], good until the next call."""
        _check(rows, self._model.vocabulary, self.keys.shape[1])
        logits = self._room(len(rows.wanted))
        lows = (c.Low * len(rows.lows))(*rows.lows)
        batch = c.Batch(
            rows=len(rows.tokens),
            wanted=len(rows.wanted),
            table_width=rows.tables.shape[1],
            tokens=rows.tokens.ctypes.data,
            positions=rows.positions.ctypes.data,
            sequences=rows.sequences.ctypes.data,
            tables=rows.tables.ctypes.data,
            wanted_rows=rows.wanted.ctypes.data,
            lora_starts=rows.lora_starts.ctypes.data,
            lora_items=rows.lora_items.ctypes.data,
            lows=ctypes.addressof(lows),
            logits=logits.ctypes.data,
        )
        self._library.commonlore_forward(ctypes.byref(self._model), ctypes.byref(batch))
        return logits[:, : self._model.vocabulary]

    def _room(self, wanted: int) -> npt.NDArray[np.float32]:
        """Memory for logits, kept: fresh pages cost a tenth of a step."""
        if len(self._logits) < wanted:
            self._logits = np.empty((wanted, padded(self._model.vocabulary)), np.float32)
        return self._logits[:wanted]

    def scrub(self, pages: list[int]) -> None:
        """Zero these pages."""
        self.keys[:, pages] = 0
        self.values[:, pages] = 0

    # ---- packing

    def _describe(self, base: WeightReader, max_context: int) -> c.Model:
        a, embedding = self._architecture, base.embedding()
        half = a.head_dim // 2
        cosines, sines = (
            table[:, :half].contiguous() for table in rotary_tables(a, max_context, torch.float32)
        )
        return c.Model(
            hidden=a.hidden,
            intermediate=a.intermediate,
            layers=a.layers,
            heads=a.heads,
            kv_heads=a.kv_heads,
            head_dim=a.head_dim,
            vocabulary=a.vocabulary,
            threads=torch.get_num_threads(),
            epsilon=a.norm_epsilon,
            embedding=self._keep(embedding.to(torch.bfloat16)),
            layer=ctypes.addressof(self._layers),
            norm=self._keep(base.norm()),
            cosines=self._keep(cosines),
            sines=self._keep(sines),
            head=self._linear(base.head(embedding), "bf16"),
            keys=self.keys.data_ptr(),
            values=self.values.data_ptr(),
            cache_layer=self.keys[0].numel(),
        )

    def _layer(self, layer: Layer) -> c.Layer:
        return c.Layer(
            input_norm=self._keep(layer.input_norm),
            mlp_norm=self._keep(layer.mlp_norm),
            query_norm=self._keep_optional(layer.query_norm),
            key_norm=self._keep_optional(layer.key_norm),
            qkv=self._linear(layer.qkv),
            o=self._linear(layer.o),
            gate_up=self._linear(layer.gate_up),
            down=self._linear(layer.down),
        )

    def _linear(self, linear: Linear | Int4Linear, kind: str | None = None) -> c.Linear:
        assert isinstance(linear, Linear)  # a WeightReader gives no other
        outputs, inputs = linear.weight.shape
        kind = kind or self._kind
        pack = pack_bf16 if kind == "bf16" else pack_int4
        bias = linear.bias
        if bias is not None:
            bias = torch.nn.functional.pad(bias, (0, padded(outputs) - outputs))
        return c.Linear(
            inputs=inputs,
            outputs=outputs,
            kind=_KINDS[kind],
            packed=self._keep(pack(linear.weight)),
            bias=self._keep_optional(bias),
        )

    def _keep(self, tensor: Tensor) -> int:
        self._alive.append(self._arena.keep(tensor))
        return self._alive[-1].data_ptr()

    def _keep_optional(self, tensor: Tensor | None) -> int | None:
        return None if tensor is None else self._keep(tensor)


def _check(rows: Rows, vocabulary: int, pages: int) -> None:
    """C++ reads memory by these numbers. Raises ValueError."""
    count = len(rows.tokens)
    if not (len(rows.positions) == len(rows.sequences) == count == len(rows.lora_starts) - 1):
        raise ValueError("the arrays of a step have different lengths")
    for array, end in (
        (rows.tokens, vocabulary),
        (rows.positions, rows.tables.shape[1] * PAGE_SIZE),
        (rows.sequences, len(rows.tables)),
        (rows.tables, pages),
        (rows.wanted, count),
        (rows.lora_starts, len(rows.lora_items) + 1),
        (rows.lora_items, len(rows.lows)),
    ):
        if array.dtype != np.int32 or not array.flags.c_contiguous:
            raise ValueError("the arrays of a step are contiguous int32")
        if array.size and (array.min() < 0 or array.max() >= end):
            raise ValueError(f"an index of a step lies outside 0 … {end - 1}")
