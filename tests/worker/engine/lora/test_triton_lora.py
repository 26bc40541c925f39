"""Triton's kernels against torch's products and plain ones. Without a GPU they run in Triton's interpreter:
`TRITON_INTERPRET=1 pytest tests/worker/engine/lora/test_triton_lora.py`, where triton is installed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.requests.records import Sampling
from commonlore.worker.adapters.fake import write_fake_adapter
from commonlore.worker.adapters.validate import check_adapter_file
from commonlore.worker.engine.batching.slots import Move, Place
from commonlore.worker.engine.decoding import torch_runner
from commonlore.worker.engine.engine import LoadedAdapter
from commonlore.worker.engine.lora.layout import rank_bucket
from commonlore.worker.engine.lora.plan import LoraPlan, PromptTerms, SlotTerm, Terms
from commonlore.worker.engine.lora.slot_pools import SlotPools
from commonlore.worker.engine.lora.torch_lora import TorchLora, TorchLoraLayout
from commonlore.worker.engine.memory.weights import FUSED
from commonlore.worker.engine.types import AdapterSource
from commonlore.worker.models.architecture import LINEARS, linear_shapes
from commonlore.worker.models.reference import BaseModel

pytest.importorskip("triton", reason="triton is not installed")
if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("no GPU; TRITON_INTERPRET=1 runs them in Triton's interpreter", allow_module_level=True)

from commonlore.worker.engine.lora.triton_lora import TritonLora, rehearse

# Triton 3.6's interpreter takes scalars out of arrays in a way that numpy 2.4 has removed
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim > 0:DeprecationWarning")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
RANKED = [
    (8, LINEARS),
    (16, LINEARS),
    (32, LINEARS),
    (64, LINEARS),
    (5, ("q_proj",)),
    (64, ("q_proj", "v_proj")),
    (20, ("k_proj", "o_proj", "up_proj")),
    (16, ("down_proj",)),
    (8, ("gate_proj", "up_proj")),
]
"""Every bucket, and sets of targets that fill each fused linear in part."""
DTYPES = [torch.float32, torch.bfloat16]


class Bench:
    """All adapters of RANKED in slots, for both ways of multiplying."""

    def __init__(self, base: BaseModel, sources: Sequence[AdapterSource], dtype: torch.dtype) -> None:
        self.base = base
        self.layout = TorchLoraLayout(base.architecture, dtype, DEVICE)
        self.pools = SlotPools(self.layout, len(sources))
        self.packed: dict[Place, torch.Tensor] = {}
        self.places: list[Place] = []
        for number, source in enumerate(sources):
            with self.pools.prepare(source.adapter, rank_bucket(source.rank)):
                self.fill(Place(rank_bucket(source.rank), number + 1), source)
        self.triton = TritonLora(base.architecture, self.layout, self.pools)
        self.torch = TorchLora(self.layout, self.pools)

    def fill(self, place: Place, source: AdapterSource) -> None:
        file = check_adapter_file(Path(source.path), source, self.base.architecture)
        loaded = LoadedAdapter(source, self.layout.pack(file, source))
        self.pools.apply([Move(place, source.adapter)], {source.adapter: loaded})
        self.packed[place] = loaded.packed
        self.places.append(place)

    def term(self, number: int, weight: float = 1.0) -> SlotTerm:
        place = self.places[number]
        return SlotTerm(place.bucket, place.slot, weight)

    def cases(self, rows: int) -> Iterator[tuple[int, str, torch.Tensor, torch.Tensor]]:
        """Every decoder linear in every layer with inputs and what the base gave."""
        shapes = linear_shapes(self.base.architecture)
        drawn = torch.Generator().manual_seed(rows)
        for layer in range(self.base.architecture.layers):
            for fused, linears in FUSED.items():
                width = sum(shapes[one][0] for one in linears)
                x = torch.randn(rows, shapes[linears[0]][1], generator=drawn)
                out = torch.randn(rows, width, generator=drawn)
                yield layer, fused, x.to(DEVICE, self.layout.dtype), out.to(DEVICE, self.layout.dtype)

    def reference(
        self, plan: LoraPlan, layer: int, fused: str, x: torch.Tensor, out: torch.Tensor
    ) -> torch.Tensor:
        """In float64, row by row and term by term."""
        terms: list[Terms] = [*plan.decoding]
        for prompt in plan.prompts:
            terms += [prompt.terms] * (prompt.end - prompt.start)
        wanted = out.double().cpu()
        for row, own in enumerate(terms):
            for term in own:
                packed = self.packed[Place(term.bucket, term.slot)]
                a, b = (f[layer].double().cpu() for f in self.layout.factors(packed, term.bucket)[fused])
                wanted[row] += term.weight * (x[row].double().cpu() @ a.T @ b)
        return wanted

    def check(self, plan: LoraPlan) -> None:
        """Both ways and the reference agree, everywhere."""
        rows = plan.prompts[-1].end if plan.prompts else len(plan.decoding)
        tolerance = 1e-5 if self.layout.dtype == torch.float32 else 0.02
        ours, torchs = self.triton.bind(plan), self.torch.bind(plan)
        for layer, fused, x, out in self.cases(rows):
            found, other = out.clone(), out.clone()
            ours.add(layer, fused, x, found)
            torchs.add(layer, fused, x, other)
            wanted = self.reference(plan, layer, fused, x, out)
            scale = float(wanted.abs().max())
            assert float((found.cpu() - wanted).abs().max()) <= tolerance * scale, (layer, fused)
            assert float((found - other).abs().max()) <= 2 * tolerance * scale, (layer, fused)


@pytest.fixture(scope="module")
def sources(tiny: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> list[AdapterSource]:
    folder = tmp_path_factory.mktemp("ranked")
    return [
        write_fake_adapter(folder / f"{seed}", tiny.architecture, rank, targets, seed=200 + seed)
        for seed, (rank, targets) in enumerate(RANKED)
    ]


@pytest.fixture(scope="module", params=DTYPES, ids=["fp32", "bf16"])
def bench(request: pytest.FixtureRequest, tiny: BaseModel, sources: list[AdapterSource]) -> Bench:
    return Bench(tiny, sources, request.param)


def test_the_rehearsal_passes(bench: Bench) -> None:
    rehearse(bench.base.architecture, bench.layout)


def test_every_row_its_own_adapter_with_base_rows_between(bench: Bench) -> None:
    rows: list[Terms] = [()]
    for number in range(len(RANKED)):
        rows += [(bench.term(number),), ()]
    bench.check(LoraPlan(tuple(rows)))


def test_neighbours_with_the_same_adapter_over_several_tiles(bench: Bench) -> None:
    bench.check(LoraPlan(((bench.term(1),),) * 35 + ((bench.term(4),),) * 3 + ((),) * 2))


def test_compositions_of_several_ranks(bench: Bench) -> None:
    composed = (bench.term(0, 0.3), bench.term(3, 0.5), bench.term(5, 0.2))
    other = (bench.term(2, 0.25), bench.term(7, 0.75))
    bench.check(LoraPlan((composed, (bench.term(0),), other, (), composed, composed)))


def test_prompts_behind_decoding_rows(bench: Bench) -> None:
    composed = (bench.term(1, 0.6), bench.term(6, 0.4))
    plan = LoraPlan(
        ((bench.term(8),), ()),
        (
            PromptTerms(2, 39, (bench.term(3),)),
            PromptTerms(39, 44, ()),
            PromptTerms(44, 61, composed),
        ),
    )
    bench.check(plan)


def test_only_base_rows_change_nothing(bench: Bench) -> None:
    bound = bench.triton.bind(LoraPlan(((), ()), (PromptTerms(2, 9, ()),)))
    for layer, fused, x, out in bench.cases(9):
        found = out.clone()
        bound.add(layer, fused, x, found)
        assert torch.equal(found, out)


def test_a_slot_filled_anew_gives_its_new_adapter(tiny: BaseModel, sources: list[AdapterSource]) -> None:
    """The same plan, the same slot: once an adapter of one linear, then one of all."""
    bench = Bench(tiny, [sources[7]], torch.float32)
    plan = LoraPlan(((bench.term(0),),))
    bench.check(plan)
    bench.pools.apply([Move(bench.places[0], None)], {})
    bench.fill(bench.places[0], sources[1])
    bench.check(plan)


def test_a_bad_adapter_spoils_its_own_rows_only(tiny: BaseModel, sources: list[AdapterSource]) -> None:
    bench = Bench(tiny, sources[:2], torch.float32)
    bench.pools.pool(bench.places[1].bucket)[bench.places[1].slot].fill_(float("nan"))
    bound = bench.triton.bind(LoraPlan(((bench.term(0),), (bench.term(1),), (), (bench.term(0),))))
    for layer, fused, x, out in bench.cases(4):
        bound.add(layer, fused, x, out)
        assert out.isfinite().all(1).tolist() == [True, False, True, True], (layer, fused)


def test_an_engine_says_the_same_with_either(
    lab, build_engine, tiny: BaseModel, sources: list[AdapterSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = Sampling(seed=7, max_tokens=3)
    composed = (AdapterWeight(sources[0].adapter, PPM // 4), AdapterWeight(sources[3].adapter, 3 * PPM // 4))
    adapters = [lab.one_adapter(source) for source in (sources[6], sources[1])]
    requests = [
        lab.ask(f"{n}", n, sampling=few, adapters=own)
        for n, own in enumerate([adapters[0], composed, (), adapters[1]])
    ]
    engines = [build_engine(device=DEVICE.type)]
    monkeypatch.setattr(torch_runner, "choose_lora", TritonLora)
    engines.append(build_engine(device=DEVICE.type))
    for engine in engines:
        for source in sources:
            engine.load_adapter(source)
    plain, kernels = ([one.tokens for one in lab.run(engine, *requests)] for engine in engines)
    assert kernels == plain
