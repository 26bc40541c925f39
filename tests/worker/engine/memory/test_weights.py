"""Four bits away from the CPU: torch's fake tensors check shapes as its operators for CUDA do."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from commonlore.worker.engine.memory.devices import CPU
from commonlore.worker.engine.memory.int4 import quantise
from commonlore.worker.engine.memory.weights import Int4Linear, Linear, four_bit_linear

META = torch.device("meta")


@pytest.mark.parametrize(("inputs", "tiles"), [(576, 4), (1536, 8), (96, 2)])
def test_the_layout_for_tensor_cores(inputs: int, tiles: int) -> None:
    with FakeTensorMode():
        linear = four_bit_linear(quantise(torch.randn(192, inputs)), None, META)
        assert isinstance(linear, Int4Linear)
        out = linear(torch.empty(5, inputs, dtype=torch.bfloat16, device=META))
    assert (out.device, out.shape) == (META, (5, 192))
    assert linear.packed.shape == (192 // 8, inputs // (16 * tiles), 32, tiles // 2)
    assert linear.scales_and_zeros.shape == (inputs // 32, 192, 2)


def test_what_cannot_be_packed_is_spread_to_bf16(caplog: pytest.LogCaptureFixture) -> None:
    with FakeTensorMode():
        linear = four_bit_linear(quantise(torch.randn(12, 64)), None, META)
    assert isinstance(linear, Linear)
    assert (linear.weight.shape, linear.weight.dtype) == ((12, 64), torch.bfloat16)
    assert "four times the room" in caplog.text


def test_on_the_cpu_nothing_is_spread() -> None:
    weight = torch.randn(64, 64)
    linear = four_bit_linear(quantise(weight), torch.ones(64).bfloat16(), CPU)
    assert isinstance(linear, Int4Linear)
    x = torch.randn(3, 64)
    wanted = x @ weight.T + 1
    assert torch.linalg.norm(linear(x.bfloat16()).float() - wanted) / torch.linalg.norm(wanted) < 0.1
