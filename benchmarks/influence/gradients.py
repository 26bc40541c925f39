"""Gradients of single examples by the adapter's matrices, and the covariances that EK-FAC wants.

Rules of this file:
- This is the benchmark's own way to a gradient, by hooks on peft's modules: it shares nothing with
  worker/attribution, so that each can be held against the other.
- A gradient is of an example's mean nats a scored token. Padding comes after everything that attends and is
  not scored, so it adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from commonlore.worker.factory.examples import Example

from .training import Batch, collate, mean_nats, scored_logits

BATCH = 40
PARAMETERS_AT_ONCE = 600_000_000
"""Of the model, times the examples of a pass: what a pass keeps grows with both."""


@dataclass(frozen=True, slots=True, eq=False)
class Gradients:
    """By matrix: (examples, outputs, inputs)."""

    by_matrix: Mapping[str, Tensor]

    def flat(self) -> Tensor:
        """(examples, coordinates)."""
        return torch.cat([each.flatten(1) for each in self.by_matrix.values()], dim=1)

    @property
    def coordinates(self) -> int:
        """Of one example."""
        return sum(each[0].numel() for each in self.by_matrix.values())


@dataclass(slots=True, eq=False)
class Covariances:
    """Sums over tokens of the outer products of a matrix's inputs, and of its outputs' gradients."""

    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)

    def add(self, name: str, entered: Tensor, left: Tensor) -> None:
        """Those of one batch: (examples, tokens, inputs), (examples, tokens, outputs)."""
        self.inputs[name] = self.inputs.get(name, 0) + torch.einsum("nti,ntj->ij", entered, entered)
        self.outputs[name] = self.outputs.get(name, 0) + torch.einsum("nto,ntp->op", left, left)


def example_gradients(model: Any, examples: Sequence[Example], batch: int = BATCH) -> Gradients:
    """Of each example's own tokens."""
    return _collect(model, examples, batch, None, None)


def fisher_gradients(model: Any, examples: Sequence[Example], seed: int) -> tuple[Gradients, Covariances]:
    """Of tokens drawn from the model itself: their second moments are the Fisher information."""
    covariances = Covariances()
    return watched_fisher_gradients(model, examples, seed, covariances), covariances


class Watch(Protocol):
    """Is told what enters a matrix, and the gradient of what leaves it, batch by batch."""

    def add(self, name: str, entered: Tensor, left: Tensor) -> None:
        """(examples, tokens, inputs), (examples, tokens, outputs)."""


def watched_fisher_gradients(model: Any, examples: Sequence[Example], seed: int, watch: Watch) -> Gradients:
    """Of tokens drawn from the model itself."""
    return _collect(model, examples, BATCH, watch, torch.Generator().manual_seed(seed))


def _collect(
    model: Any,
    examples: Sequence[Example],
    size: int,
    watch: Watch | None,
    generator: torch.Generator | None,
) -> Gradients:
    parts: dict[str, list[Tensor]] = {}
    size = _fitting(model, size)
    with _recording(model) as recorded:
        for start in range(0, len(examples), size):
            batch = collate(examples[start : start + size])
            targets = None if generator is None else _drawn(model, batch, generator)
            recorded.clear()
            model.zero_grad(set_to_none=True)
            mean_nats(model, batch, targets).sum().backward()
            for name, (entered, left) in sorted(recorded.items()):
                parts.setdefault(name, []).append(torch.einsum("nto,nti->noi", left, entered))
                if watch is not None:
                    watch.add(name, entered * batch.real[..., None], left)
    model.zero_grad(set_to_none=True)
    return Gradients({name: torch.cat(each) for name, each in parts.items()})


def _fitting(model: Any, size: int) -> int:
    """As many examples to a pass, or fewer of a large model."""
    parameters = sum(each.numel() for each in model.parameters())
    return max(1, min(size, PARAMETERS_AT_ONCE // parameters))


@torch.no_grad()
def _drawn(model: Any, batch: Batch, generator: torch.Generator) -> Tensor:
    odds = scored_logits(model, batch).softmax(-1)
    return torch.multinomial(odds, 1, generator=generator)[:, 0]


@contextmanager
def _recording(model: Any) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """What entered each of the adapter's matrices and the gradient of what left it, after a backward pass."""
    entered: dict[str, Tensor] = {}
    recorded: dict[str, tuple[Tensor, Tensor]] = {}
    hooks = []
    for name, module in model.named_modules():
        if name.endswith((".lora_A.default", ".lora_B.default")):
            hooks += [module.register_forward_hook(_noting(entered, name))]
            hooks += [module.register_full_backward_hook(_pairing(entered, recorded, name))]
    try:
        yield recorded
    finally:
        for hook in hooks:
            hook.remove()


def _noting(entered: dict[str, Tensor], name: str) -> Any:
    def note(_module: Any, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        entered[name] = inputs[0].detach()

    return note


def _pairing(entered: dict[str, Tensor], recorded: dict[str, tuple[Tensor, Tensor]], name: str) -> Any:
    def pair(_module: Any, _inputs: Any, outputs: tuple[Tensor, ...]) -> None:
        recorded[name] = (entered[name], outputs[0].detach())

    return pair
