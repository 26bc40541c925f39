"""The C structures of `passes.cpp`, field for field; `load_passes` compares their sizes."""

from __future__ import annotations

import ctypes
from ctypes import CFUNCTYPE, POINTER, Structure, c_float, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import ClassVar

from ...engine.native import library as engine_library
from ...engine.native.structures import TARGETS, Linear

SOURCES = ("passes.cpp", "layout.h", "pieces.h", "low.h", "whiten.h")
_SHARED = ("linear.h", "simd.h")
Told = CFUNCTYPE(None, c_int32)
"""Is called with a layer's number after its backward pass."""


class Low(Structure):
    """An adapter's factors of one linear, rank first, and where their gradients go."""

    _fields_: ClassVar = [
        ("down", c_void_p),
        ("up", c_void_p),
        ("down_gradient", c_void_p),
        ("up_gradient", c_void_p),
    ]


class Layer(Structure):
    """One decoder layer; norms are float32, linears bf16, packed for both directions."""

    _fields_: ClassVar = [
        ("input_norm", c_void_p),
        ("mlp_norm", c_void_p),
        ("qkv", Linear),
        ("o", Linear),
        ("gate_up", Linear),
        ("down", Linear),
        ("qkv_back", Linear),
        ("o_back", Linear),
        ("gate_up_back", Linear),
        ("down_back", Linear),
        ("low", Low * len(TARGETS)),
    ]


class Passes(Structure):
    """A base with an adapter, an example's states, and room for what lies between."""

    _fields_: ClassVar = [
        ("tokens", c_int32),
        ("hidden", c_int32),
        ("intermediate", c_int32),
        ("layers", c_int32),
        ("heads", c_int32),
        ("kv_heads", c_int32),
        ("head_dim", c_int32),
        ("rank", c_int32),
        ("threads", c_int32),
        ("epsilon", c_float),
        ("scale", c_float),
        ("terms", c_int32),
        ("layer", c_void_p),
        ("cosines", c_void_p),
        ("sines", c_void_p),
        ("states", c_void_p),
        ("room", c_void_p),
        ("watch", Told),
        ("most_kept", c_int64),
    ]


class Whitening(Structure):
    """A tensor's gradient, rank first, and its curvature."""

    _fields_: ClassVar = [
        ("gradient", c_void_p),
        ("basis", c_void_p),
        ("codes", c_void_p),
        ("steps", c_void_p),
        ("top", c_void_p),
        ("rest", c_void_p),
        ("rank", c_int32),
        ("wide", c_int32),
        ("columns", c_int32),
        ("unused", c_int32),
    ]


class Places(Structure):
    """Where a watcher finds things in `room`, in numbers: the first five from the start of a layer's part,
    the next five from the start of `room`; and how large a layer's part and the shared one before it are."""

    _fields_: ClassVar = [
        (name, c_int64)
        for name in (
            *("first", "attended", "second", "active", "squeezed"),
            *("d_qkv", "d_middle", "d_gate_up", "d_out", "back"),
            *("layer_size", "shared_size"),
        )
    ]


@cache
def load_passes() -> ctypes.CDLL:
    """The library, compiled first where that was not done before. Raises Unavailable."""
    own, engine = Path(__file__).parent, Path(engine_library.__file__).parent
    library = engine_library.load_compiled(
        [*(own / name for name in SOURCES), *(engine / name for name in _SHARED)]
    )
    library.commonlore_passes_room.argtypes = (POINTER(Passes),)
    library.commonlore_passes_room.restype = c_int64
    for name in ("forward", "backward"):
        function = getattr(library, f"commonlore_passes_{name}")
        function.argtypes, function.restype = (POINTER(Passes),), None
    library.commonlore_passes_places.argtypes = (POINTER(Passes), POINTER(Places))
    library.commonlore_passes_places.restype = None
    library.commonlore_passes_project.argtypes = (
        *(POINTER(Whitening), c_int32, c_void_p, c_int32, c_void_p, c_void_p),
    )
    library.commonlore_passes_project.restype = None
    sizes = (c_int64 * 4)()
    library.commonlore_passes_sizes(sizes)
    if [ctypes.sizeof(one) for one in (Low, Layer, Passes, Whitening)] != list(sizes):
        raise engine_library.Unavailable("the library's structures differ from this package's")
    return library
