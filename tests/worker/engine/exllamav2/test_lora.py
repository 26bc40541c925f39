"""Adapters as factors, and a batch whose rows are under different ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from commonlore.protocol.encoding.fields import PPM
from commonlore.worker.adapters.validate import check_adapter_file
from commonlore.worker.engine.exllamav2.lora import FactorLayout, LinearShape, LoraWeights, compose
from commonlore.worker.engine.exllamav2.mixed import LoraBatch
from commonlore.worker.engine.exllamav2.model import linear_keys
from commonlore.worker.engine.lora.layout import rank_bucket
from commonlore.worker.engine.types import AdapterSource
from commonlore.worker.models.architecture import linear_shapes
from commonlore.worker.models.reference import BaseModel

GATE, DOWN, QUERY = (
    f"model.layers.1.{name}" for name in ("mlp.gate_proj", "mlp.down_proj", "self_attn.q_proj")
)


def layout_of(base: BaseModel, order: torch.Tensor | None = None) -> FactorLayout:
    shapes = {}
    for key in linear_keys(base.architecture):
        outputs, inputs = linear_shapes(base.architecture)[key.rpartition(".")[2]]
        shapes[key] = LinearShape(inputs, outputs, order if ".mlp." in key else None)
    return FactorLayout(shapes)


def read(layout: FactorLayout, base: BaseModel, source: AdapterSource) -> LoraWeights:
    file = check_adapter_file(Path(source.path), source, base.architecture)
    return layout.unpack(layout.pack(file, source), source)


def test_factors_are_the_files_with_the_scale_in_the_second(
    tiny: BaseModel, adapters: list[AdapterSource]
) -> None:
    source = adapters[0]
    file = check_adapter_file(Path(source.path), source, tiny.architecture)
    weights = read(layout_of(tiny), tiny, source)
    assert list(weights.factors) == linear_keys(tiny.architecture)
    name = f"base_model.model.{QUERY}"
    down, up = (torch.from_numpy(file.array(f"{name}.lora_{half}.weight")) for half in "AB")
    torch.testing.assert_close(weights.factors[QUERY][0], down.t().half())
    torch.testing.assert_close(weights.factors[QUERY][1], (up.t() * source.alpha / source.rank).half())


def test_only_the_targets_are_packed_and_never_more_than_the_bucket_allows(
    tiny: BaseModel, adapters: list[AdapterSource]
) -> None:
    layout = layout_of(tiny)
    for source in adapters:
        file = check_adapter_file(Path(source.path), source, tiny.architecture)
        packed = layout.pack(file, source)
        assert packed.numel() <= layout.size(rank_bucket(source.rank))
        weights = layout.unpack(packed, source)
        assert {key.rpartition(".")[2] for key in weights.factors} == set(source.targets)
    attention, mlp = (read(layout, tiny, adapters[number]) for number in (2, 3))
    assert (attention.changes_attention, attention.changes_mlp) == (True, False)
    assert (mlp.changes_attention, mlp.changes_mlp) == (False, True)


def test_the_inside_of_an_mlp_follows_its_order(tiny: BaseModel, adapters: list[AdapterSource]) -> None:
    order = torch.randperm(tiny.architecture.intermediate, generator=torch.Generator().manual_seed(1))
    plain = read(layout_of(tiny), tiny, adapters[0]).factors
    ordered = read(layout_of(tiny, order), tiny, adapters[0]).factors
    assert torch.equal(ordered[GATE][1], plain[GATE][1][:, order])
    assert torch.equal(ordered[DOWN][0], plain[DOWN][0][order])
    for key, side in ((GATE, 0), (DOWN, 1), (QUERY, 0), (QUERY, 1)):
        assert torch.equal(ordered[key][side], plain[key][side])


def test_a_padded_linear_has_padded_factors(tiny: BaseModel, adapters: list[AdapterSource]) -> None:
    layout = layout_of(tiny)
    wide = FactorLayout(
        {key: LinearShape(one.inputs, one.outputs + 32) for key, one in layout.shapes.items()}
    )
    narrow, padded = read(layout, tiny, adapters[1]), read(wide, tiny, adapters[1])
    assert torch.equal(padded.factors[GATE][1][:, :-32], narrow.factors[GATE][1])
    assert not padded.factors[GATE][1][:, -32:].any()


def weights(seed: int, rank: int, keys: tuple[str, ...] = ("a",)) -> LoraWeights:
    draw = torch.Generator().manual_seed(seed)
    factors = {
        key: (torch.randn(6, rank, generator=draw), torch.randn(rank, 5, generator=draw)) for key in keys
    }
    return LoraWeights(factors)


def update(one: LoraWeights, x: torch.Tensor) -> torch.Tensor:
    down, up = one.factors["a"]
    return x @ down @ up


def test_every_row_gets_its_own_update() -> None:
    first, second, other = weights(1, 2), weights(2, 5), weights(3, 2, ("b",))
    members = [first, None, second, first, other]
    x, out = torch.randn(5, 1, 6), torch.randn(5, 1, 5)
    before = out.clone()
    LoraBatch(members).add("a", x, out)
    for row, member in enumerate(members):
        added = update(member, x[row]) if member in (first, second) else torch.zeros(1, 5)
        torch.testing.assert_close(out[row], before[row] + added)


@pytest.mark.parametrize("rows", [1, 3])
def test_rows_of_one_adapter_share_one_product(rows: int) -> None:
    one = weights(1, 4)
    x, out = torch.randn(rows, 7, 6), torch.zeros(rows, 7, 5)
    LoraBatch([one] * rows).add("a", x, out)
    torch.testing.assert_close(out, update(one, x))


def test_a_batch_knows_its_members_and_slot_zero_is_nobody() -> None:
    first, second = weights(1, 2), weights(2, 2)
    batch = LoraBatch([second, None, first, second])
    assert batch.slots == (None, second, first)
    assert batch.row_slot == (1, 0, 2, 1)
    assert batch.has([second, None, first, second])
    assert not batch.has([second, None, first])
    assert not batch.has([first, None, second, second])
    assert batch[0].lm_head is None


def test_a_composition_is_the_weighted_sum() -> None:
    first, second = weights(1, 2), weights(2, 3, ("a", "b"))
    both = compose([(first, PPM // 4), (second, PPM)])
    x = torch.randn(3, 6)
    torch.testing.assert_close(update(both, x), update(first, x) / 4 + update(second, x))
    assert set(both.factors) == {"a", "b"}
    assert compose([(first, PPM)]) is first
