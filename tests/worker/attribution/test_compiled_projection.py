"""Whitening and projection, compiled, against the same by torch and numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from commonlore.protocol.errors import AttributionFailed, LocalProtocolError
from commonlore.worker.attribution.curvature import DIAGONAL, FITTED, FULL, Curvature, Plan, top
from commonlore.worker.attribution.curvature_fit import CurvatureFit
from commonlore.worker.attribution.gradient import Transform
from commonlore.worker.attribution.sketch import Sketch
from commonlore.worker.engine.native.library import Unavailable, find_compiler

WIDTH = 512


@pytest.fixture(scope="module", autouse=True)
def _needs_a_compiler() -> None:
    try:
        find_compiler()
    except Unavailable as why:
        pytest.skip(str(why))


def gradients(rank: int, examples: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"k.lora_A": (rank, 72), "k.lora_B": (37, rank), "q.lora_A": (rank, 72), "q.lora_B": (96, rank)}
    return {name: torch.randn(examples, *shape, generator=generator) for name, shape in shapes.items()}


def fitted(rank: int, plan: Plan) -> Curvature:
    seen = gradients(rank, 20, 1)
    fit = CurvatureFit({name: (each.shape[1], each.shape[2]) for name, each in seen.items()}, plan)
    for name, each in seen.items():
        fit.observe_sides(name, torch.randn(50, each.shape[2]), torch.randn(50, each.shape[1]))
    fit.solve()
    fit.observe_gradients(seen)
    return fit.finish()


@pytest.mark.parametrize("plan", [FITTED, top(7), top(4, separable=False), DIAGONAL, FULL])
@pytest.mark.parametrize("rank", [8, 12, 3])
def test_they_are_the_same(rank: int, plan: Plan) -> None:
    curvature = fitted(rank, plan)
    sketch = Sketch.draw(bytes(32), curvature.size, WIDTH)
    one = gradients(rank, 1, 2)
    found, expected = (Transform(sketch, curvature, compiled=each).project(one) for each in (True, False))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * abs(expected).max())
    assert (Transform(sketch, curvature).project(one) == found).all()


def test_what_does_not_fit_or_is_not_finite_is_refused() -> None:
    curvature = fitted(4, top(3))
    with pytest.raises(LocalProtocolError, match="this sketch takes 10"):
        Transform(Sketch.draw(bytes(32), 10, WIDTH), curvature)
    transform = Transform(Sketch.draw(bytes(32), curvature.size, WIDTH), curvature)
    with pytest.raises(LocalProtocolError, match="a gradient of"):
        transform.project(gradients(5, 1, 1))
    broken = gradients(4, 1, 1)
    broken["q.lora_B"][0, 0, 0] = torch.inf
    with pytest.raises(AttributionFailed, match="not finite"):
        transform.project(broken)
