from __future__ import annotations

from typing import Any

import numpy as np
import torch

from commonlore.worker.attribution.adapted import AdaptedModel, adapter_shapes
from commonlore.worker.attribution.attributor import read_factors
from commonlore.worker.attribution.gradient import place
from commonlore.worker.factory.checkpoint import read_adapter
from commonlore.worker.factory.examples import Encoder
from commonlore.worker.factory.job import Pair, TrainConfig
from commonlore.worker.factory.lora import adapter_parameters, add_adapter, load_model, set_adapter
from commonlore.worker.factory.packing import answer_losses, pack
from commonlore.worker.models.architecture import LINEARS


def test_hooks_give_what_autograd_gives_through_peft(world: Any) -> None:
    encoder = Encoder(world.base)
    examples = [
        encoder.pair(Pair(row.question, row.answer))
        for row in world.rows_of("tree") + world.rows_of("bird")[:1]
    ]
    factors = read_factors(world.subject.early, adapter_shapes(world.base.architecture, 8, LINEARS), 2.0)
    model = AdaptedModel(world.base)
    model.use(factors)

    oracle = load_model(world.base, torch.float32)
    add_adapter(oracle, TrainConfig())
    set_adapter(oracle, read_adapter(world.subject.early))
    for example in examples:
        model.answer_nll(*place(model, example)).sum().backward()
        mine = np.concatenate([g.numpy().ravel() for _, g in sorted(model.take_gradients().items())])
        parameters = adapter_parameters(oracle)
        for parameter in parameters.values():
            parameter.grad = None
        answer_losses(oracle, pack([example]), torch.float32).mean().backward()
        expected = np.concatenate([parameters[name].grad.numpy().ravel() for name in sorted(parameters)])
        np.testing.assert_allclose(mine, expected, rtol=1e-3, atol=1e-6 * abs(expected).max() + 1e-7)
