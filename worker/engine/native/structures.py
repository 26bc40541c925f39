"""The C structures of `forward.cpp`, field for field; `library.py` compares their sizes."""

from __future__ import annotations

from ctypes import Structure, c_float, c_int32, c_int64, c_void_p
from typing import ClassVar

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The order of `Low.offsets`."""


class Linear(Structure):
    """A packed base weight; `kind` 0 is bf16, 1 int4."""

    _fields_: ClassVar = [
        ("inputs", c_int32),
        ("outputs", c_int32),
        ("kind", c_int32),
        ("unused", c_int32),
        ("packed", c_void_p),
        ("bias", c_void_p),
    ]


class Layer(Structure):
    """One decoder layer; norms are float32."""

    _fields_: ClassVar = [
        ("input_norm", c_void_p),
        ("mlp_norm", c_void_p),
        ("query_norm", c_void_p),
        ("key_norm", c_void_p),
        ("qkv", Linear),
        ("o", Linear),
        ("gate_up", Linear),
        ("down", Linear),
    ]


class Model(Structure):
    """A whole base and its cache."""

    _fields_: ClassVar = [
        ("hidden", c_int32),
        ("intermediate", c_int32),
        ("layers", c_int32),
        ("heads", c_int32),
        ("kv_heads", c_int32),
        ("head_dim", c_int32),
        ("vocabulary", c_int32),
        ("threads", c_int32),
        ("epsilon", c_float),
        ("unused", c_int32),
        ("embedding", c_void_p),
        ("layer", c_void_p),
        ("norm", c_void_p),
        ("cosines", c_void_p),
        ("sines", c_void_p),
        ("head", Linear),
        ("keys", c_void_p),
        ("values", c_void_p),
        ("cache_layer", c_int64),
    ]


class Low(Structure):
    """One adapter on one row."""

    _fields_: ClassVar = [
        ("slot", c_void_p),
        ("layer_size", c_int64),
        ("offsets", c_int64 * len(TARGETS)),
        ("rank", c_int32),
        ("weight", c_float),
    ]


class Batch(Structure):
    """One step's input and where its logits go."""

    _fields_: ClassVar = [
        ("rows", c_int32),
        ("wanted", c_int32),
        ("table_width", c_int32),
        ("unused", c_int32),
        ("tokens", c_void_p),
        ("positions", c_void_p),
        ("sequences", c_void_p),
        ("tables", c_void_p),
        ("wanted_rows", c_void_p),
        ("lora_starts", c_void_p),
        ("lora_items", c_void_p),
        ("lows", c_void_p),
        ("logits", c_void_p),
    ]


class Packing(Structure):
    """An adapter file and the slot that it is packed for."""

    _fields_: ClassVar = [
        ("file", c_void_p),
        ("places", c_void_p),
        ("inputs", c_void_p),
        ("outputs", c_void_p),
        ("offsets", c_void_p),
        ("slot", c_void_p),
        ("layer_size", c_int64),
        ("layers", c_int32),
        ("rank", c_int32),
        ("bucket", c_int32),
        ("scale", c_float),
    ]


ALL = (Linear, Layer, Model, Batch, Low, Packing)
