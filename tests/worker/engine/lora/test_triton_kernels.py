"""The kernels compile for the GPUs that matter; the compiler needs none. What they compute is
`test_triton_lora.py`'s matter.
"""

from __future__ import annotations

import os

import pytest

pytest.importorskip("triton", reason="triton is not installed")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("under TRITON_INTERPRET=1 nothing is compiled", allow_module_level=True)

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from commonlore.worker.engine.lora import triton_kernels as kernels

POINTERS = {"narrow": "*fp32", "table": "*i64", "weights": "*fp32", "tile_table": "*i64", "edges": "*i32"}
COMMON = {"PARTS": 3, "SPLITS": 2, "TILE": kernels.TILE}
KERNELS = [
    (kernels.shrink, COMMON | {"IN": 576, "BLOCK": kernels.BLOCK_IN}),
    (kernels.expand, COMMON | {"OUT": 960, "ALIGN": 16, "BLOCK": kernels.BLOCK_OUT}),
]


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(("dtype", "precision"), [("bf16", "tf32"), ("fp32", "ieee")])
@pytest.mark.parametrize("kernel", KERNELS, ids=["shrink", "expand"])
def test_it_compiles(kernel, dtype: str, precision: str, capability: int) -> None:
    function, constants = kernel
    constants = constants | {"PRECISION": precision}
    types = POINTERS | {"x": f"*{dtype}", "out": f"*{dtype}"} | dict.fromkeys(constants, "constexpr")
    signature = {name: types.get(name, "i32") for name in function.arg_names}
    source = ASTSource(function, signature, constants)
    assert triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["cubin"]
