"""Packed products against plain ones, for every number of rows that a kernel treats differently."""

from __future__ import annotations

import ctypes

import pytest
import torch
from torch import Tensor

from commonlore.worker.engine.memory.int4 import dequantise, quantise
from commonlore.worker.engine.native import structures as c
from commonlore.worker.engine.native.library import load_library
from commonlore.worker.engine.native.packing import pack_bf16, pack_int4, padded

KINDS = {"bf16": (0, pack_bf16), "int4": (1, pack_int4)}


def exact(weight: Tensor, kind: str) -> Tensor:
    return weight.bfloat16().float() if kind == "bf16" else dequantise(quantise(weight))


def multiply(x: Tensor, weight: Tensor, kind: str, bias: Tensor | None = None, threads: int = 1) -> Tensor:
    number, pack = KINDS[kind]
    packed, (outputs, inputs) = pack(weight), weight.shape
    y = torch.full((len(x), padded(outputs)), torch.nan)
    linear = c.Linear(
        inputs=inputs,
        outputs=outputs,
        kind=number,
        packed=packed.data_ptr(),
        bias=None if bias is None else bias.data_ptr(),
    )
    load_library().commonlore_multiply(ctypes.byref(linear), x.data_ptr(), len(x), y.data_ptr(), threads)
    return y[:, :outputs]


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [*range(1, 18), 33])
def test_products_of_every_number_of_rows(kind: str, rows: int) -> None:
    x, weight = numbers(rows, 96).bfloat16(), numbers(100, 96, seed=1)
    torch.testing.assert_close(
        multiply(x, weight, kind), x.float() @ exact(weight, kind).T, atol=2e-4, rtol=0
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_has_the_same_bits_among_others_and_on_more_threads(kind: str) -> None:
    x, weight = numbers(13, 576).bfloat16(), numbers(960, 576, seed=1)
    together = multiply(x, weight, kind)
    assert torch.equal(together, multiply(x, weight, kind, threads=2))
    for row in range(len(x)):
        assert torch.equal(together[row : row + 1], multiply(x[row : row + 1].contiguous(), weight, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_bias_is_added(kind: str) -> None:
    x, weight, bias = numbers(3, 64).bfloat16(), numbers(96, 64, seed=1), numbers(96, seed=2)
    plain = multiply(x, weight, kind)
    torch.testing.assert_close(multiply(x, weight, kind, bias), plain + bias)


def test_weights_of_a_four_bit_file_keep_their_grid() -> None:
    scales, minima = numbers(8, 3, seed=3).abs().half().float(), numbers(8, 3, seed=4).half().float()
    nibbles = torch.randint(0, 16, (8, 3, 32), generator=torch.Generator().manual_seed(5))
    nibbles[:, :, 0], nibbles[:, :, 1] = 0, 15
    weight = (scales[..., None] * nibbles + minima[..., None]).flatten(1)
    torch.testing.assert_close(dequantise(quantise(weight)), weight, atol=2e-3, rtol=2e-3)


def test_a_constant_group_is_kept() -> None:
    weight = torch.full((48, 32), 0.375)
    assert torch.equal(dequantise(quantise(weight)), weight)
