"""Adapters trained in the attributor's own model: the many short trainings that faithfulness is measured by.

Rules of this file:
- Start, order of rows, rates, optimiser and clipping are the trainer's. Examples go one by one, each weighing
  as many as its scored tokens: a step is that of the trainer's packed batch, up to rounding.
- The base is in memory already, and one such training takes seconds: it is not kept half done.
- The value of an adapter for an answer is minus its mean nats a token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice

import torch
from torch.optim import AdamW

from ...protocol.errors import TrainingFailed
from ..factory.examples import Example, batches
from ..factory.job import TrainConfig
from ..factory.lora import initial_factor
from ..factory.train import follow_gradients
from .adapted import AdaptedModel
from .factors import Factors
from .gradient import compute_losses, place

Parameters = Mapping[str, torch.nn.Parameter]


def train_briefly(
    model: AdaptedModel,
    shapes: Mapping[str, tuple[int, int]],
    config: TrainConfig,
    examples: Sequence[Example],
) -> Factors:
    """The adapter that `config.steps` steps on these examples make.

    Raises TrainingFailed, AttributionFailed.
    """
    parameters = {
        name: torch.nn.Parameter(initial_factor(config.seed, name, shape)) for name, shape in shapes.items()
    }
    optimizer = AdamW(parameters.values(), lr=0.0, weight_decay=0.0, fused=True)
    order = batches(config.seed, len(examples), config.batch_size)
    for step, batch in enumerate(islice(order, config.steps), 1):
        _find_gradients(model, parameters, config, [examples[row] for row in batch])
        follow_gradients(optimizer, config, step)
    return _factors(parameters, config)


def values(model: AdaptedModel, factors: Factors, answers: Sequence[Example]) -> list[float]:
    """What an adapter is worth for each answer. Raises AttributionFailed."""
    losses = compute_losses(model, factors, answers)
    return [-loss / _scored(answer) for loss, answer in zip(losses, answers, strict=True)]


def _find_gradients(
    model: AdaptedModel, parameters: Parameters, config: TrainConfig, batch: Sequence[Example]
) -> None:
    model.use(_factors(parameters, config))
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    scored = sum(map(_scored, batch))
    for example in batch:
        with torch.enable_grad():
            loss = model.answer_nll(*place(model, example))
            loss.backward()  # type: ignore[no-untyped-call]
        if not math.isfinite(loss.item()):
            raise TrainingFailed(f"a loss is {loss.item()}; the recipe's learning rate is too high for it")
        for name, gradient in model.take_gradients().items():
            parameters[name].grad.add_(gradient[0], alpha=_scored(example) / scored)  # type: ignore[union-attr]


def _factors(parameters: Parameters, config: TrainConfig) -> Factors:
    return Factors({name: each.detach() for name, each in parameters.items()}, config.alpha / config.rank)


def _scored(example: Example) -> int:
    return len(example.tokens) - example.answer_start
