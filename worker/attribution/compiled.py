"""The decoder layers of a base with one adapter, compiled (`native/passes.cpp`): faster than torch and, on
one kind of machine, the same bits on any number of threads.

Rules of this file:
- Weights are packed once for each direction, bf16, in huge pages; the adapter's factors stay where `use` put
  them until the next adapter. What C++ reads is kept alive here.
- Models with biases or with norms over heads, and heads of odd sizes, are `Unavailable`: torch computes them.
"""

from __future__ import annotations

from ctypes import byref, c_void_p, cast
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.decoding.decoder import rotary_tables
from ..engine.memory.streamed import Arena, zeros
from ..engine.memory.weights import Layer, WeightReader
from ..engine.native.library import Unavailable
from ..engine.native.packing import pack_bf16
from ..engine.native.structures import TARGETS, Linear
from ..models.architecture import Architecture
from ..models.reference import BaseModel
from .factors import Factors, Watch, is_down, tensor_names
from .native import structures as c

_RANKS = 8
"""Ranks that the kernels compute together: factors are padded to a multiple."""
_LANES = 16
_KEPT_ROOM = 1 << 26
"""Numbers: what a longer example took is given back with the next one."""
_MOST_KEPT = 1 << 27
"""Numbers, half a GB: an example whose layers leave more than that between the passes is long: each layer is
computed again on the way back."""
_SOURCES = {"q_proj": "first", "k_proj": "first", "v_proj": "first", "o_proj": "attended"} | {
    "gate_proj": "second",
    "up_proj": "second",
    "down_proj": "active",
}


class CompiledLayers:
    """All decoder layers with the last norm, from tokens by way of `embedding` (vocabulary, hidden)."""

    def __init__(self, base: BaseModel, embedding: Tensor, norm: Tensor) -> None:
        """Raises Unavailable."""
        self._embedding, self._norm = embedding, norm
        self._architecture = a = base.architecture
        _check(a)
        self._library = c.load_passes()
        self._alive: list[Tensor] = []
        self._arena = Arena()
        reader = WeightReader(base.weights(), a, torch.float32)
        packed = [self._pack(reader.layer(number)) for number in range(a.layers)]
        self._layers = (c.Layer * a.layers)(*packed)
        self._tables = rotary_tables(a, 0, torch.float32)
        self._room = torch.empty(0)
        self._factors: Factors | None = None
        self._held: list[Tensor] = []
        self._gradients: dict[str, Tensor] = {}
        self._rank = _RANKS
        self._watch: Watch | None = None
        self.terms = 1

    def use(self, factors: Factors) -> None:
        """Look through this adapter from now on. Targets that it lacks stay the base's."""
        if factors is self._factors:
            return
        self._held, self._gradients = [], {}
        ranks = {tensor.shape[0] for name, tensor in factors.tensors.items() if is_down(name)}
        self._rank = -(-max(ranks, default=1) // _RANKS) * _RANKS
        for number in range(self._architecture.layers):
            for place, linear in enumerate(TARGETS):
                self._layers[number].low[place] = self._low(factors, *tensor_names(number, linear))
        self._factors = factors

    def watch(self, watch: Watch | None) -> None:
        """Tell what every backward pass brings to each tensor's two sides, until told otherwise."""
        self._watch = watch

    def __call__(self, tokens: Tensor) -> Tensor:
        """(1, tokens) to (1, tokens, hidden); a backward pass leaves the adapter's gradients."""
        embedded = F.embedding(tokens, self._embedding).requires_grad_(True)
        states: Tensor = _Layers.apply(embedded, self)  # type: ignore[no-untyped-call]
        return F.rms_norm(states, self._norm.shape, self._norm, self._architecture.norm_epsilon)

    def take_gradients(self) -> dict[str, Tensor]:
        """What the last backward pass left: {tensor: (1, out, in)}, good until the next one."""
        assert self._factors is not None
        shapes = {name: self._factors.tensors[name].shape for name in self._gradients}
        return {
            name: whole[None, : shapes[name][0]] if is_down(name) else whole[None, : shapes[name][1]].mT
            for name, whole in self._gradients.items()
        }

    # ---- passes

    def forward(self, embedded: Tensor) -> tuple[Tensor, c.Passes]:
        """The states, and what `backward` wants."""
        states = embedded.detach()[0].clone(memory_format=torch.contiguous_format)
        passes = self._describe(states)
        self._library.commonlore_passes_forward(byref(passes))
        return states[None], passes

    def backward(self, passes: c.Passes, gradient: Tensor) -> Tensor:
        """The gradient at the embeddings."""
        states = gradient[0].clone(memory_format=torch.contiguous_format)
        passes.states = states.data_ptr()
        told = c.Told(lambda layer: self._tell(passes, layer)) if self._watch is not None else c.Told()
        passes.watch = told
        self._library.commonlore_passes_backward(byref(passes))
        return states[None]

    def _describe(self, states: Tensor) -> c.Passes:
        a, tokens = self._architecture, len(states)
        if len(self._tables[0]) < tokens:
            self._tables = rotary_tables(a, tokens, torch.float32)
        cosines, sines = self._tables
        passes = c.Passes(
            tokens=tokens,
            hidden=a.hidden,
            intermediate=a.intermediate,
            layers=a.layers,
            heads=a.heads,
            kv_heads=a.kv_heads,
            head_dim=a.head_dim,
            rank=self._rank,
            threads=torch.get_num_threads(),
            epsilon=a.norm_epsilon,
            scale=self._factors.scale if self._factors is not None else 0.0,
            terms=self.terms,
            layer=_address(self._layers),
            cosines=cosines.data_ptr(),
            sines=sines.data_ptr(),
            states=states.data_ptr(),
            most_kept=_MOST_KEPT,
        )
        wanted = self._library.commonlore_passes_room(byref(passes))
        if not wanted <= self._room.numel() <= max(wanted, _KEPT_ROOM):
            self._room = zeros((wanted,), torch.float32)
        passes.room = self._room.data_ptr()
        return passes

    def _tell(self, passes: c.Passes, layer: int) -> None:
        """What the watcher wants to know of one layer."""
        assert self._watch is not None
        assert self._factors is not None
        places = c.Places()
        self._library.commonlore_passes_places(byref(passes), byref(places))
        own = self._room[places.shared_size + layer * places.layer_size :]
        a, tokens = self._architecture, passes.tokens
        q, kv, inner, hidden = a.query_size, a.kv_size, a.intermediate, a.hidden
        inputs = {"first": hidden, "attended": q, "second": hidden, "active": inner}
        entered = {name: _matrix(own, getattr(places, name), tokens, width) for name, width in inputs.items()}
        qkv = _matrix(self._room, places.d_qkv, tokens, q + 2 * kv).tensor_split((q, q + kv), 1)
        gate_up = _matrix(self._room, places.d_gate_up, tokens, 2 * inner).tensor_split((inner,), 1)
        middle = _matrix(self._room, places.d_middle, tokens, hidden)
        out = _matrix(self._room, places.d_out, tokens, hidden)
        for place, (linear, left) in enumerate(zip(TARGETS, (*qkv, middle, *gate_up, out), strict=True)):
            down, up = tensor_names(layer, linear)
            if down not in self._gradients:
                continue
            rank, step = self._factors.tensors[down].shape[0], place * tokens * self._rank
            squeezed, back = (
                _matrix(room, start + step, tokens, self._rank)[:, :rank]
                for room, start in ((own, places.squeezed), (self._room, places.back))
            )
            self._watch(up, squeezed, left)
            self._watch(down, entered[_SOURCES[linear]], back)

    # ---- packing

    def _pack(self, layer: Layer) -> c.Layer:
        linears: dict[str, Linear] = {}
        for name in ("qkv", "o", "gate_up", "down"):
            linear = getattr(layer, name)
            if linear.bias is not None:
                raise Unavailable("a model with biases")
            weight = linear.weight.to(torch.bfloat16)
            linears |= {name: self._linear(weight), f"{name}_back": self._linear(weight.T)}
        return c.Layer(self._keep(layer.input_norm), self._keep(layer.mlp_norm), **linears)

    def _linear(self, weight: Tensor) -> Linear:
        outputs, inputs = weight.shape
        return Linear(inputs=inputs, outputs=outputs, kind=0, packed=self._keep(pack_bf16(weight)))

    def _keep(self, tensor: Tensor) -> int:
        self._alive.append(self._arena.keep(tensor))
        return self._alive[-1].data_ptr()

    def _low(self, factors: Factors, down: str, up: str) -> c.Low:
        if down not in factors.tensors or up not in factors.tensors:
            return c.Low()
        pointers = []
        for name, tensor in ((down, factors.tensors[down]), (up, factors.tensors[up].T)):
            whole = F.pad(tensor, (0, 0, 0, self._rank - len(tensor))).contiguous()
            self._gradients[name] = torch.zeros_like(whole)
            self._held.append(whole)
            pointers += [whole.data_ptr(), self._gradients[name].data_ptr()]
        return c.Low(pointers[0], pointers[2], pointers[1], pointers[3])


class _Layers(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, embedded: Tensor, layers: CompiledLayers) -> Tensor:
        states, context.passes = layers.forward(embedded)
        context.layers = layers
        return states

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return context.layers.backward(context.passes, gradient), None


def _check(a: Architecture) -> None:
    if a.normalises_heads:
        raise Unavailable("a model with norms over its heads")
    if a.head_dim % _LANES or a.hidden % 2 or a.intermediate % 2:
        raise Unavailable(f"heads of {a.head_dim} numbers")


def _address(layers: Any) -> int:
    return int(cast(layers, c_void_p).value or 0)


def _matrix(room: Tensor, start: int, rows: int, width: int) -> Tensor:
    return room[start : start + rows * width].view(rows, width)
