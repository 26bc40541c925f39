from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from commonlore.protocol.errors import AttributionFailed
from commonlore.worker.attribution import frozen
from commonlore.worker.attribution.adapted import AdaptedModel
from commonlore.worker.attribution.attributor import read_factors
from commonlore.worker.attribution.factors import Factors, adapter_shapes
from commonlore.worker.attribution.gradient import Transform, compute_vectors, place
from commonlore.worker.attribution.sketch import Sketch
from commonlore.worker.factory.checkpoint import read_adapter
from commonlore.worker.factory.examples import Encoder, Example
from commonlore.worker.factory.job import Pair, TrainConfig
from commonlore.worker.factory.lora import adapter_parameters, add_adapter, load_model, set_adapter
from commonlore.worker.factory.packing import answer_losses, pack
from commonlore.worker.models.architecture import LINEARS


def test_what_has_no_gradient_is_named(world: Any) -> None:
    model = AdaptedModel(world.base)
    shapes = adapter_shapes(world.base.architecture, 8, LINEARS)
    factors = read_factors(world.subject.early, shapes, 2.0)
    transform = Transform(Sketch.draw(bytes(32), factors.size, 64))
    longest = world.base.architecture.max_positions
    with pytest.raises(AttributionFailed, match=f"{longest + 1} tokens; its base sees {longest}"):
        compute_vectors(model, factors, transform.answer, [Example((5,) * (longest + 1), 1)])
    with pytest.raises(AttributionFailed, match="without tokens"):
        compute_vectors(model, factors, transform.answer, [Example((5, 6), 2)])
    name = factors.names[0]
    broken = {**factors.tensors, name: torch.full_like(factors.tensors[name], torch.nan)}
    with pytest.raises(AttributionFailed, match="not finite"):
        compute_vectors(model, Factors(broken, 2.0), transform.row, [Example((5, 6, 7), 1)])


def test_a_vector_does_not_depend_on_what_is_computed_beside_it(world: Any) -> None:
    model, encoder = AdaptedModel(world.base), Encoder(world.base)
    shapes = adapter_shapes(world.base.architecture, 8, LINEARS)
    factors = read_factors(world.subject.early, shapes, 2.0)
    transform = Transform(Sketch.draw(bytes(32), factors.size, 1024))
    rows = [encoder.pair(Pair(row.question, row.answer)) for row in world.rows_of("tree")]
    together = compute_vectors(model, factors, transform.row, rows)
    alone = [compute_vectors(model, factors, transform.row, [row])[0] for row in reversed(rows)]
    assert all((a == b).all() for a, b in zip(together, reversed(alone), strict=True))


def test_what_is_recorded_is_what_autograd_gives_through_peft(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the rounding of what is multiplied, which peft does not do."""
    monkeypatch.setattr(frozen, "choose_product", lambda weight, _arena: partial(F.linear, weight=weight))
    encoder = Encoder(world.base)
    examples = [
        encoder.pair(Pair(row.question, row.answer))
        for row in world.rows_of("tree") + world.rows_of("bird")[:1]
    ]
    factors = read_factors(world.subject.early, adapter_shapes(world.base.architecture, 8, LINEARS), 2.0)
    model = AdaptedModel(world.base, compiled=False)
    model.use(factors)

    oracle = load_model(world.base, torch.float32)
    add_adapter(oracle, TrainConfig())
    set_adapter(oracle, read_adapter(world.subject.early))
    for example in examples:
        model.answer_nll(*place(model, example)).backward()
        mine = np.concatenate([g.numpy().ravel() for _, g in sorted(model.take_gradients().items())])
        parameters = adapter_parameters(oracle)
        for parameter in parameters.values():
            parameter.grad = None
        answer_losses(oracle, pack([example]), torch.float32).mean().backward()
        expected = np.concatenate([parameters[name].grad.numpy().ravel() for name in sorted(parameters)])
        np.testing.assert_allclose(mine, expected, rtol=1e-3, atol=1e-6 * abs(expected).max() + 1e-7)
