"""The factors against EK-FAC written down directly, and against files that strangers could publish."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from commonlore.protocol.errors import AttributionFailed, InvalidAdapter
from commonlore.worker.attribution.curvature import (
    DIAGONAL,
    FITTED,
    FULL,
    Curvature,
    Plan,
    oriented,
    pack_curvature,
    read_curvature,
    top,
)
from commonlore.worker.attribution.curvature_fit import CurvatureFit

SHAPES = {"q.lora_A.weight": (4, 40), "q.lora_B.weight": (24, 4)}
EXAMPLES, TOKENS, DAMPING = 30, 6, 0.1


def sides(seed: int = 1) -> dict[str, tuple[Tensor, Tensor]]:
    """Inputs and output gradients of each tensor, (examples, tokens, width), of falling variance."""
    generator = torch.Generator().manual_seed(seed)
    made: dict[str, tuple[Tensor, Tensor]] = {}
    for name, shape in SHAPES.items():
        out, into = (
            torch.randn(EXAMPLES, TOKENS, width, generator=generator) / torch.arange(1, width + 1).sqrt()
            for width in shape
        )
        mixing = torch.linalg.qr(torch.randn(into.shape[-1], into.shape[-1], generator=generator))[0]
        made[name] = into @ mixing, out
    return made


def gradients(seed: int = 1) -> dict[str, Tensor]:
    return {name: torch.einsum("nto,nti->noi", out, into) for name, (into, out) in sides(seed).items()}


def fitted(plan: Plan, seed: int = 1) -> Curvature:
    fit = CurvatureFit(SHAPES, plan)
    for name, (into, out) in sides(seed).items():
        fit.observe_sides(name, into.flatten(0, 1), out.flatten(0, 1))
    fit.solve()
    fit.observe_gradients(gradients(seed))
    return fit.finish()


def directly() -> Tensor:
    """g · H^-1 · g' between all examples, by EK-FAC with nothing left out, in float64."""
    total = torch.zeros(EXAMPLES, EXAMPLES).double()
    for name, (into, out) in sides().items():
        left, right = (
            torch.linalg.eigh(side.flatten(0, 1).double().T @ side.flatten(0, 1).double())[1]
            for side in (out, into)
        )
        rotated = (left.T @ gradients()[name].double() @ right).flatten(1)
        curvature = rotated.square().mean(0)
        total += (rotated / (curvature + DAMPING * curvature.mean())) @ rotated.T
    return total


def agreement(curvature: Curvature) -> float:
    whitened = curvature.whiten(gradients()).double()
    pair = torch.stack([(whitened @ whitened.T).flatten(), directly().flatten()])
    return float(torch.corrcoef(pair)[0, 1])


def test_with_nothing_left_out_it_is_ekfac() -> None:
    whitened = fitted(FULL).whiten(gradients()).double()
    torch.testing.assert_close(whitened @ whitened.T, directly(), rtol=0.02, atol=0.02 * directly().max())


def test_what_is_left_out_costs_little_and_less_the_more_is_kept() -> None:
    found = [agreement(fitted(plan)) for plan in (top(2), top(8), top(16), FULL)]
    assert found == sorted(found)
    assert found[0] > 0.8
    assert agreement(fitted(DIAGONAL)) > 0.8


def test_whitened_gradients_of_the_rest_and_the_top_are_of_one_scale() -> None:
    """Whatever the plan, the mean square of a whitened gradient is that of EK-FAC within a few percent."""
    expected = float(directly().diagonal().mean())
    for plan in (DIAGONAL, top(4), top(4, separable=False)):
        found = fitted(plan).whiten(gradients()).square().sum(1).mean().item()
        assert found == pytest.approx(expected, rel=0.3)


def test_factors_stay_within_twice_the_adapters_bytes() -> None:
    shapes = {f"{n}.lora_{side}.weight": (8, 512) for n in range(4) for side in "A"}
    shapes |= {f"{n}.lora_B.weight": (256, 8) for n in range(4)}
    fit = CurvatureFit(shapes, FITTED)
    for name, (out, into) in shapes.items():
        fit.observe_sides(name, torch.randn(20, into), torch.randn(20, out))
    fit.solve()
    fit.observe_gradients({name: torch.randn(3, *shape) for name, shape in shapes.items()})
    curvature = fit.finish()
    adapter_bytes = sum(2 * out * into for out, into in shapes.values())
    assert 1.5 * adapter_bytes < len(pack_curvature(curvature)) <= 2 * adapter_bytes
    assert all(tensor.wide.shape[1] >= 8 for tensor in curvature.tensors.values())


@pytest.mark.parametrize("plan", [FULL, DIAGONAL, top(5), top(5, separable=False), FITTED])
def test_the_same_bytes_whiten_alike(plan: Plan, tmp_path: Path) -> None:
    curvature = fitted(plan)
    path = tmp_path / "factors.safetensors"
    path.write_bytes(pack_curvature(curvature))
    back = read_curvature(path, SHAPES)
    assert torch.equal(back.whiten(gradients(2)), curvature.whiten(gradients(2)))
    assert back.size == curvature.size == curvature.whiten(gradients(2)).shape[1]
    assert pack_curvature(fitted(plan)) == path.read_bytes(), "a fit is a function of what it was shown"


def test_an_adapter_that_never_moved_has_no_curvature_and_no_direction() -> None:
    fit = CurvatureFit(SHAPES, top(3))
    nothing = {name: torch.zeros(2, *shape) for name, shape in SHAPES.items()}
    for name, (out, into) in SHAPES.items():
        fit.observe_sides(name, torch.zeros(5, into), torch.zeros(5, out))
    fit.solve()
    fit.observe_gradients(nothing)
    assert not fit.finish().whiten(gradients()).any()


def test_what_is_not_finite_is_refused_where_it_is_seen() -> None:
    fit = CurvatureFit(SHAPES, top(3))
    fit.observe_sides("q.lora_A.weight", torch.full((1, 40), torch.nan), torch.ones(1, 4))
    with pytest.raises(AttributionFailed, match="not finite"):
        fit.solve()


def damaged(raw: bytes, kind: str) -> bytes:
    arrays, metadata = load(raw), {"format": "commonlore/curvature/2 damping 0.1"}
    match kind:
        case "shape":
            arrays["rank"] = arrays["rank"][:2].contiguous()
        case "nan":
            arrays["top"][-1] = torch.nan
        case "negative":
            arrays["top"][-1] = -1
        case "absent":
            del arrays["rank"]
        case "gain":
            arrays["gains"][0] = torch.inf
        case "count":
            arrays["columns"] = arrays["columns"][:1].contiguous()
        case "columns":
            arrays["columns"][0] = 41
        case "kind":
            arrays["wide"] = arrays["wide"].half()
        case "rest":
            arrays["columns"][1] = -4  # of a rest that is not separable
        case "steps":
            arrays["steps"][0] = -arrays["steps"][0]
        case "damping":
            metadata["format"] = "commonlore/curvature/2 damping 0"
        case "format":
            metadata["format"] = "other"
    return save(arrays, metadata=metadata)


@pytest.mark.parametrize(
    "kind",
    [
        *("shape", "nan", "negative", "absent", "gain", "count", "columns", "kind", "rest", "steps"),
        *("damping", "format"),
    ],
)
def test_malformed_factors_are_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "factors.safetensors"
    path.write_bytes(damaged(pack_curvature(fitted(top(3))), kind))
    with pytest.raises(InvalidAdapter):
        read_curvature(path, SHAPES)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InvalidAdapter):
        read_curvature(path, SHAPES)
    with pytest.raises(InvalidAdapter, match="cannot be read"):
        read_curvature(tmp_path / "absent", SHAPES)


def test_orientation_puts_the_rank_first() -> None:
    for name, shape in SHAPES.items():
        assert oriented(name, torch.zeros(7, *shape)).shape[1] == 4
    assert dataclasses.replace(FITTED, damping=1.0).columns(8, 64) == FITTED.columns(8, 64)
