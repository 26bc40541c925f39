"""Whole passes: logits against torch's decoder in fp32, and bits that neighbours, chunks and threads
leave alone."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import c_int64
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from commonlore.worker.engine.batching.steps import Sequence as Running
from commonlore.worker.engine.batching.steps import Work
from commonlore.worker.engine.decoding.cache import KvCache
from commonlore.worker.engine.decoding.decoder import Decoder
from commonlore.worker.engine.decoding.tensors import build_batch
from commonlore.worker.engine.lora.layout import rank_bucket
from commonlore.worker.engine.lora.plan import LoraPlan
from commonlore.worker.engine.memory.weights import WeightReader, load_weights
from commonlore.worker.engine.native import structures as c
from commonlore.worker.engine.native.lora_layout import NativeLoraLayout, pack_target
from commonlore.worker.engine.native.model import PackedModel, Rows, suits
from commonlore.worker.models.architecture import Architecture, linear_shapes
from commonlore.worker.models.reference import BaseModel
from commonlore.worker.models.tiny import build_tiny

from ..decoding.test_decoder import VARIANTS

PAGES = 16  # of one sequence
CONTEXT = 256
Numbers = np.ndarray
Factors = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""A [layers, rank, in] and B [layers, out, rank] of each target."""


@dataclass(frozen=True)
class Piece:
    """Tokens [start, start + count) of the sequence in place `place`, under `lora`."""

    place: int
    tokens: Sequence[int]
    start: int
    count: int
    lora: tuple[c.Low, ...] = ()


def model_of(base: BaseModel, precision: str = "bf16") -> PackedModel:
    reader = WeightReader(base.weights(), base.architecture, torch.float32)
    return PackedModel(reader, precision, 8 * PAGES + 1, CONTEXT)


def run(model: PackedModel, *pieces: Piece) -> Numbers:
    """The logits of every piece's last token."""
    tokens: list[int] = []
    positions: list[int] = []
    sequences: list[int] = []
    wanted: list[int] = []
    lows: list[c.Low] = []
    items: list[int] = []
    starts = [0]
    for index, piece in enumerate(pieces):
        for position in range(piece.start, piece.start + piece.count):
            tokens.append(piece.tokens[position])
            positions.append(position)
            sequences.append(index)
            items += range(len(lows), len(lows) + len(piece.lora))
            starts.append(len(items))
        lows += piece.lora
        wanted.append(len(tokens) - 1)
    tables = [range(1 + PAGES * piece.place, 1 + PAGES * (piece.place + 1)) for piece in pieces]
    arrays = (np.array(a, np.int32) for a in (tokens, positions, sequences, tables, wanted, starts, items))
    return model.forward(Rows(*arrays, lows=lows)).copy()


def reference(base: BaseModel, tokens: Sequence[int], precision: str = "fp32") -> Numbers:
    decoder = Decoder(base.architecture, load_weights(base.weights(), base.architecture, precision), CONTEXT)
    cache = KvCache(base.architecture, 64, 4, torch.float32)
    work = Work(Running(None, b"", list(tokens), list(range(1, 60))), 0, len(tokens))  # type: ignore[arg-type]
    return decoder.forward(build_batch([work], 4), cache, LoraPlan()).numpy()[0]


def tokens_of(count: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(3, 300, count).tolist()


def error(found: Numbers, wanted: Numbers) -> float:
    return float(np.sqrt(((found - wanted) ** 2).mean()) / wanted.std())


@pytest.fixture(scope="module", params=VARIANTS)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return build_tiny(tmp_path_factory.mktemp("base"), changes=VARIANTS[request.param])


@pytest.fixture(scope="module")
def tiny_model(tiny: BaseModel) -> PackedModel:
    return model_of(tiny)


def test_logits_of_every_family(base: BaseModel) -> None:
    tokens = tokens_of(53, 1)
    assert error(run(model_of(base), Piece(0, tokens, 0, 53))[0], reference(base, tokens)) < 0.02


def test_four_bits_compute_what_they_stand_for(tmp_path: Path) -> None:
    base = build_tiny(tmp_path)
    model, tokens = model_of(base, "int4"), tokens_of(40, 2)
    found = run(model, Piece(0, tokens, 0, 40))[0]
    decoder = Decoder(base.architecture, load_weights(base.weights(), base.architecture, "int4"), CONTEXT)
    cache = KvCache(base.architecture, 64, 4, torch.bfloat16)
    work = Work(Running(None, b"", tokens, list(range(1, 60))), 0, 40)  # type: ignore[arg-type]
    torch_says = decoder.forward(build_batch([work], 4), cache, LoraPlan()).numpy()[0]
    assert error(found, torch_says) < 0.03
    assert error(found, reference(base, tokens)) < 0.3  # random weights have no grid to keep


@pytest.mark.parametrize("precision", ["bf16", "int4"])
def test_chunks_and_steps_give_the_bits_of_one_prompt(tiny: BaseModel, precision: str) -> None:
    tokens = tokens_of(70, 3)
    whole = run(model_of(tiny, precision), Piece(0, tokens, 0, 70))
    model = model_of(tiny, precision)
    run(model, Piece(0, tokens, 0, 33))
    run(model, Piece(0, tokens, 33, 20))
    for position in range(53, 69):
        run(model, Piece(0, tokens, position, 1))
    assert np.array_equal(whole, run(model, Piece(0, tokens, 69, 1)))


def test_neighbours_leave_a_row_alone(tiny: BaseModel, tiny_model: PackedModel) -> None:
    alone = run(tiny_model, Piece(0, tokens_of(20, 0), 0, 20))
    low = low_of(tiny.architecture, ("q_proj", "down_proj"), 16, 1)[0]
    beside = run(
        tiny_model,
        Piece(2, tokens_of(9, 5), 0, 9, (low,)),
        Piece(0, tokens_of(20, 0), 0, 20),
        Piece(3, tokens_of(31, 6), 0, 31),
    )
    assert np.array_equal(alone[0], beside[1])


def test_threads_leave_a_row_alone(tiny: BaseModel) -> None:
    pieces = [Piece(place, tokens_of(9 + place, place), 0, 9 + place) for place in range(5)]
    alone = run(model_of(tiny), *pieces)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        model = model_of(tiny)
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(alone, run(model, *pieces))


# ---- adapters

_alive: list[torch.Tensor] = []


def low_of(architecture: Architecture, targets: Sequence[str], rank: int, seed: int) -> tuple[c.Low, Factors]:
    """A random adapter in a slot, and its factors."""
    drawn = torch.Generator().manual_seed(seed)
    factors = {}
    for target in targets:
        outputs, inputs = linear_shapes(architecture)[target]
        down = torch.randn((architecture.layers, rank, inputs), generator=drawn) / inputs**0.5
        up = torch.randn((architecture.layers, outputs, rank), generator=drawn) / rank**0.5
        factors[target] = down.bfloat16().float(), up.bfloat16().float()
    bucket = rank_bucket(rank)
    offsets, size = NativeLoraLayout(architecture).offsets(bucket)
    slot = torch.zeros((architecture.layers, size), dtype=torch.bfloat16)
    shown = [at if target in factors else -1 for target, at in zip(c.TARGETS, offsets, strict=True)]
    for target, at in zip(c.TARGETS, offsets, strict=True):
        if target in factors:
            flat = pack_target(*factors[target], bucket)
            slot[:, at : at + flat.shape[1]] = flat
    _alive.append(slot)
    low = c.Low(slot=slot.data_ptr(), layer_size=size, offsets=(c_int64 * 7)(*shown), rank=bucket, weight=1.0)
    return low, factors


def merged_reference(
    base: BaseModel,
    tokens: Sequence[int],
    parts: Sequence[tuple[Factors, float]],
) -> Numbers:
    """fp32 logits with the updates added to the weights themselves."""
    weights = load_weights(base.weights(), base.architecture, "fp32")
    for factors, weight in parts:
        for target, (down, up) in factors.items():
            for layer in range(base.architecture.layers):
                _weight_of(weights.layers[layer], base.architecture, target).add_(
                    weight * up[layer] @ down[layer]
                )
    cache = KvCache(base.architecture, 64, 4, torch.float32)
    work = Work(Running(None, b"", list(tokens), list(range(1, 60))), 0, len(tokens))  # type: ignore[arg-type]
    return (
        Decoder(base.architecture, weights, CONTEXT)
        .forward(build_batch([work], 4), cache, LoraPlan())
        .numpy()[0]
    )


def _weight_of(layer: object, architecture: Architecture, target: str) -> torch.Tensor:
    a = architecture
    places = {
        "q_proj": ("qkv", 0, a.query_size),
        "k_proj": ("qkv", a.query_size, a.kv_size),
        "v_proj": ("qkv", a.query_size + a.kv_size, a.kv_size),
        "o_proj": ("o", 0, a.hidden),
        "gate_proj": ("gate_up", 0, a.intermediate),
        "up_proj": ("gate_up", a.intermediate, a.intermediate),
        "down_proj": ("down", 0, a.hidden),
    }
    name, start, size = places[target]
    found: torch.Tensor = getattr(layer, name).weight[start : start + size]
    return found


@pytest.mark.parametrize("rank", [1, 4, 8, 12, 16, 32, 64])
@pytest.mark.parametrize("targets", [c.TARGETS, ("q_proj", "v_proj"), ("k_proj", "o_proj", "down_proj")])
def test_an_adapter_of_every_rank(
    tiny: BaseModel, tiny_model: PackedModel, rank: int, targets: Sequence[str]
) -> None:
    low, factors = low_of(tiny.architecture, targets, rank, 7)
    tokens = tokens_of(24, 8)
    found = run(tiny_model, Piece(1, tokens, 0, 24, (low,)))[0]
    wanted = merged_reference(tiny, tokens, [(factors, 1.0)])
    assert error(found, wanted) < 0.06
    assert error(found, reference(tiny, tokens)) > 0.2, "the adapter must matter for the comparison to"


def test_each_row_has_its_own_adapters(tiny: BaseModel, tiny_model: PackedModel) -> None:
    one, one_factors = low_of(tiny.architecture, c.TARGETS, 8, 1)
    two, two_factors = low_of(tiny.architecture, ("q_proj", "up_proj"), 32, 2)
    one.weight, two.weight = 0.75, -0.5
    cases = [
        ((one,), [(one_factors, 0.75)]),
        ((one, two), [(one_factors, 0.75), (two_factors, -0.5)]),
        ((), []),
    ]
    prompts = [tokens_of(19, seed) for seed in range(3)]
    pieces = [Piece(p, prompts[p], 0, 19, low) for p, (low, _) in enumerate(cases)]
    for found, tokens, (_, parts) in zip(run(tiny_model, *pieces), prompts, cases, strict=True):
        assert error(found, merged_reference(tiny, tokens, parts)) < 0.06


# ---- what it refuses


def test_indices_outside_are_refused(tiny_model: PackedModel) -> None:
    good: dict[str, object] = {name: [0] for name in ("tokens", "positions", "sequences", "wanted")}
    good |= {"tables": [[1]], "lora_starts": [0, 0], "lora_items": []}
    for field, wrong in (("tokens", [10**6]), ("positions", [16]), ("sequences", [1]), ("tables", [[10**6]])):
        arrays = {name: np.array(value, np.int32) for name, value in (good | {field: wrong}).items()}
        with pytest.raises(ValueError, match="outside"):
            tiny_model.forward(Rows(**arrays, lows=[]))


def test_what_it_cannot_compute_is_said(tiny: BaseModel, tmp_path: Path) -> None:
    assert suits(tiny.architecture, 16) is None
    assert suits(tiny.architecture, 8) == "pages of 8 tokens; it has 16"
    odd = build_tiny(tmp_path, changes={"intermediate_size": 168})
    assert suits(odd.architecture, 16) == "sizes that are not multiples of 32"
