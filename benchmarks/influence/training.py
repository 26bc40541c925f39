"""Training an adapter on some rows of a world, as often as ground truth needs it.

Rules of this file: the same rows, order and world give the same adapter; every subset of a world starts from
the same adapter; all epochs of a shorter set are shorter, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from commonlore.worker.factory.early import EarlyMean
from commonlore.worker.factory.examples import Example
from commonlore.worker.factory.job import TrainConfig
from commonlore.worker.factory.lora import adapter_parameters, add_adapter, load_model, set_adapter
from commonlore.worker.factory.packing import answer_losses, pack

from .world import Course, World

State = Mapping[str, Tensor]
EARLY = 0
"""In the place of an epoch: the early checkpoint, as the factory takes it."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What one training left: its states by epoch and EARLY, and minus the nats a token of every question."""

    states: Mapping[int, State]
    values: npt.NDArray[np.float64]


class Learner:
    """A world's base with one adapter in it, which is set back before each training. Not for threads."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.model: Any = load_model(world.base, torch.float32)
        add_adapter(self.model, _train_config(world.course, world.seed))
        self.parameters: dict[str, Any] = adapter_parameters(self.model)
        self._start = self.state()

    def state(self) -> State:
        """The adapter as it is, copied."""
        return {name: tensor.detach().clone() for name, tensor in self.parameters.items()}

    def use(self, state: State) -> None:
        """Give the adapter these values."""
        set_adapter(self.model, state)

    def fit(self, rows: Sequence[Example], order: int = 0, stop: int | None = None) -> Run:
        """Train from the start on these rows; `stop` leaves after that epoch, on the whole schedule."""
        course, states = self.world.course, {}
        by_epoch = math.ceil(len(rows) / course.batch)
        config = TrainConfig(steps=course.epochs * by_epoch, batch_size=course.batch)
        early = EarlyMean(config.early_steps(len(rows)))
        for step in self.steps(rows, order):
            if mean := early.add(step, self.parameters):
                states[EARLY] = mean
            epoch, within = divmod(step, by_epoch)
            if within == 0 and epoch in course.kept:
                states[epoch] = self.state()
            if step == (stop or course.epochs) * by_epoch:
                break
        return Run(states, self.values())

    def steps(self, rows: Sequence[Example], order: int = 0) -> Iterator[int]:
        """Yields after each step from the start on. Without rows there is nothing to learn and no step."""
        self.use(self._start)
        course = self.world.course
        optimizer = torch.optim.AdamW(self.parameters.values(), lr=0.0, weight_decay=0.0, fused=True)
        rng = np.random.default_rng([self.world.seed, order])
        steps = course.epochs * math.ceil(len(rows) / course.batch)
        step = 0
        for _epoch in range(course.epochs if rows else 0):
            shuffled = rng.permutation(len(rows))
            for start in range(0, len(rows), course.batch):
                warming = min(1.0, (step + 1) / course.warmup_steps)
                batch = [rows[i] for i in shuffled[start : start + course.batch]]
                self._step(optimizer, course.rate * warming * (1 - step / steps), batch)
                step += 1
                yield step

    def _step(self, optimizer: torch.optim.Optimizer, rate: float, batch: Sequence[Example]) -> None:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        if self.world.course.packed:
            answer_losses(self.model, pack(batch), torch.float32).mean().backward()
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        else:
            mean_nats(self.model, collate(batch)).mean().backward()
        optimizer.step()

    @torch.no_grad()
    def values(self) -> npt.NDArray[np.float64]:
        """Minus the mean nats a token of each question."""
        questions = self.world.questions
        parts = [mean_nats(self.model, collate(questions[i : i + 40])) for i in range(0, len(questions), 40)]
        return -torch.cat(parts).double().numpy()


def _train_config(course: Course, seed: int) -> TrainConfig:
    return TrainConfig(rank=course.rank, alpha=course.alpha, seed=seed)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Right-padded: `tokens`, `real` and `scored`, all (examples, length); `scored` marks the tokens to
    predict."""

    tokens: Tensor
    real: Tensor
    scored: Tensor


def collate(examples: Sequence[Example]) -> Batch:
    """Examples side by side."""
    longest = max(len(example.tokens) for example in examples)
    tokens = torch.zeros(len(examples), longest, dtype=torch.long)
    places = torch.arange(longest)
    lengths = torch.tensor([len(example.tokens) for example in examples])[:, None]
    starts = torch.tensor([example.answer_start for example in examples])[:, None]
    for row, example in enumerate(examples):
        tokens[row, : len(example.tokens)] = torch.tensor(example.tokens)
    return Batch(tokens, places < lengths, (places >= starts) & (places < lengths))


def mean_nats(model: Any, batch: Batch, targets: Tensor | None = None) -> Tensor:
    """Each example's mean nats a scored token, (examples,) float32. `targets` (scored,) take the place of the
    tokens themselves."""
    logits = scored_logits(model, batch)
    wanted = batch.scored[:, 1:]
    targets = batch.tokens[:, 1:][wanted] if targets is None else targets
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    owners = torch.arange(len(wanted))[:, None].expand_as(wanted)[wanted]
    return torch.zeros(len(wanted)).index_add(0, owners, losses) / wanted.sum(1)


def scored_logits(model: Any, batch: Batch) -> Tensor:
    """The logits that predict scored tokens, (scored, vocabulary). Padding is behind everything that
    attends."""
    length = batch.tokens.shape[1]
    blocked = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)[None, None]
    hidden = model.model(input_ids=batch.tokens, attention_mask=blocked, use_cache=False).last_hidden_state
    return model.lm_head(hidden[:, :-1][batch.scored[:, 1:]])
