"""The compiled layers against the same arithmetic by torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from commonlore.worker.attribution import compiled
from commonlore.worker.attribution.adapted import AdaptedModel
from commonlore.worker.attribution.factors import Factors, adapter_shapes
from commonlore.worker.engine.native.library import Unavailable, find_compiler
from commonlore.worker.models.architecture import LINEARS
from commonlore.worker.models.reference import BaseModel

Seen = dict[str, tuple[Tensor, Tensor]]


@pytest.fixture(scope="module", autouse=True)
def _needs_a_compiler() -> None:
    try:
        find_compiler()
    except Unavailable as why:
        pytest.skip(str(why))


def an_adapter(base: BaseModel, rank: int, targets: tuple[str, ...]) -> Factors:
    generator = torch.Generator().manual_seed(rank)
    shapes = adapter_shapes(base.architecture, rank, targets)
    made = {name: torch.randn(shape, generator=generator) * 0.05 for name, shape in shapes.items()}
    return Factors(made, 2.0)


def passes(model: AdaptedModel, factors: Factors, length: int = 23) -> tuple[float, dict[str, Tensor], Seen]:
    """An example's loss, its gradients, and what a watcher was told."""
    seen: Seen = {}
    tokens = torch.randint(3, 200, (1, length), generator=torch.Generator().manual_seed(length))
    scored = torch.zeros(1, length, dtype=torch.bool)
    scored[0, length // 2 :] = True
    model.use(factors)
    model.watch(lambda name, inputs, outputs: seen.update({name: (inputs.clone(), outputs.clone())}))
    loss = model.answer_nll(tokens, scored)
    loss.backward()  # type: ignore[no-untyped-call]
    model.watch(None)
    return float(loss.detach()), {k: v.clone() for k, v in model.take_gradients().items()}, seen


@pytest.mark.parametrize(
    ("rank", "targets"),
    [(8, LINEARS), (12, LINEARS), (4, ("q_proj", "down_proj")), (16, ("v_proj", "up_proj"))],
)
def test_they_compute_what_torch_computes(world: Any, rank: int, targets: tuple[str, ...]) -> None:
    by_kernels, by_torch = AdaptedModel(world.base), AdaptedModel(world.base, compiled=False)
    assert by_kernels.is_compiled
    assert not by_torch.is_compiled
    factors = an_adapter(world.base, rank, targets)
    (loss, gradients, seen), (wanted, expected, told) = passes(by_kernels, factors), passes(by_torch, factors)
    assert loss == pytest.approx(wanted, rel=1e-4)
    assert gradients.keys() == expected.keys() == seen.keys() == told.keys() == factors.tensors.keys()
    for name, gradient in expected.items():
        _alike(gradients[name], gradient)
        for mine, theirs in zip(seen[name], told[name], strict=True):
            _alike(mine, theirs)


def test_the_last_adapter_leaves_nothing_behind(world: Any) -> None:
    model = AdaptedModel(world.base)
    wide, narrow = an_adapter(world.base, 8, LINEARS), an_adapter(world.base, 4, ("q_proj",))
    first = passes(model, narrow)
    passes(model, wide, length=40)
    again = passes(model, narrow)
    assert first[0] == again[0]
    assert all(torch.equal(gradient, again[1][name]) for name, gradient in first[1].items())


def test_the_number_of_threads_changes_no_bit(world: Any) -> None:
    factors, before = an_adapter(world.base, 8, LINEARS), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(passes(AdaptedModel(world.base), factors)[1])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(gradient, found[1][name]) for name, gradient in found[0].items())


def _alike(mine: Tensor, theirs: Tensor) -> None:
    """Up to the order of sums, and what a rounding that falls the other way makes of it."""
    assert mine.shape == theirs.shape
    assert float((mine - theirs).norm()) <= 0.01 * float(theirs.norm())


def test_a_long_example_takes_less_memory_and_gives_the_same_bits(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long counts here what is longer than nothing."""
    factors = an_adapter(world.base, 8, LINEARS)
    whole = AdaptedModel(world.base)
    expected = passes(whole, factors, length=200)
    monkeypatch.setattr(compiled, "_MOST_KEPT", 0)
    frugal = AdaptedModel(world.base)
    found = passes(frugal, factors, length=200)
    assert found[0] == expected[0]
    for name, gradient in expected[1].items():
        assert torch.equal(found[1][name], gradient)
        assert all(torch.equal(a, b) for a, b in zip(found[2][name], expected[2][name], strict=True))
    rooms = [model._layers._room.numel() for model in (frugal, whole)]  # type: ignore[attr-defined]
    heads = world.base.architecture.heads
    assert rooms[0] + (world.base.architecture.layers * heads - 1) * 200**2 < rooms[1]


def test_two_terms_leave_two_implementations_little_to_differ_in(world: Any) -> None:
    factors = an_adapter(world.base, 8, LINEARS)
    models = AdaptedModel(world.base), AdaptedModel(world.base, compiled=False)
    apart = []
    for terms in (1, 2):
        for model in models:
            model.round_to(terms)
        mine, theirs = (passes(model, factors)[1] for model in models)
        squares = sum(float((mine[name] - theirs[name]).square().sum()) for name in theirs)
        apart.append((squares / sum(float(each.square().sum()) for each in theirs.values())) ** 0.5)
    assert apart[1] < 1e-4
    assert apart[1] < apart[0] / 10
