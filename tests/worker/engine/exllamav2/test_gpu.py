"""On a GPU: the conversion, the kernels, and mixed rows against the torch engine. Never run without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.requests.records import ChatMessage, Sampling
from commonlore.worker.adapters.fake import write_fake_adapter
from commonlore.worker.engine.exllamav2 import flash
from commonlore.worker.engine.exllamav2.engine import ExLlamaV2Engine
from commonlore.worker.engine.exllamav2.library import Library, load_library
from commonlore.worker.engine.exllamav2.quantize import Options, quantize_base
from commonlore.worker.engine.torch_engine import TorchEngine
from commonlore.worker.engine.types import AdapterSource, EngineConfig, GenerationRequest
from commonlore.worker.models.artefacts import Artefact
from commonlore.worker.models.importing import import_base
from commonlore.worker.models.reference import BaseModel, no_progress

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def starter(cache: Path) -> BaseModel:
    return import_base("starter", cache)


@pytest.fixture(scope="module")
def artefact(starter: BaseModel, cache: Path) -> Artefact:
    """SmolLM2-135M at 6 bits, calibrated shortly."""
    options = Options(6.0, 8, rows=20, length=512, measurement_rows=4)
    return quantize_base(starter, cache, options, no_progress)


@pytest.fixture(scope="module")
def real() -> Library:
    return load_library()


@pytest.fixture(scope="module")
def sources(starter: BaseModel, cache: Path) -> list[AdapterSource]:
    shapes = [(8, None), (16, ("q_proj", "v_proj")), (8, ("gate_proj", "up_proj", "down_proj"))]
    return [
        write_fake_adapter(cache / f"{seed}.safetensors", starter.architecture, rank, *more, seed=seed)
        for seed, (rank, targets) in enumerate(shapes)
        for more in [(targets,) if targets else ()]
    ]


@pytest.fixture(scope="module", params=[True, False], ids=["mixed", "switched"])
def on_gpu(
    request: pytest.FixtureRequest,
    real: Library,
    starter: BaseModel,
    artefact: Artefact,
    sources: list[AdapterSource],
) -> Iterator[ExLlamaV2Engine]:
    config = EngineConfig(str(starter.directory), pages=1024, artefact_dir=str(artefact.directory))
    engine = ExLlamaV2Engine(config, real, mixed=request.param)
    for source in sources:
        engine.load_adapter(source)
    yield engine
    del engine
    torch.cuda.empty_cache()


def ask(number: int, *sources: AdapterSource) -> GenerationRequest:
    return GenerationRequest(
        number.to_bytes(4, "big"),
        Sampling(seed=7, max_tokens=16),
        messages=(ChatMessage("user", "Name three fruits. " * (1 + 20 * number)),),
        adapters=tuple(AdapterWeight(one.adapter, PPM) for one in sources),
        top_logprobs=5,
    )


def first_logprobs(
    engine: ExLlamaV2Engine | TorchEngine, asked: list[GenerationRequest]
) -> dict[bytes, list]:
    found: dict[bytes, list] = {}
    for event in engine.generate(asked):
        assert not event.error
        found.setdefault(event.request_id, []).extend(event.logprobs)
    return {request: logprobs[0].top for request, logprobs in found.items()}


def test_rows_agree_with_the_reference_within_the_quantisation(
    on_gpu: ExLlamaV2Engine, starter: BaseModel, sources: list[AdapterSource]
) -> None:
    reference = TorchEngine(EngineConfig(str(starter.directory), "fp32", pages=512))
    for source in sources:
        reference.load_adapter(source)
    asked = [ask(0), *(ask(1 + n, source) for n, source in enumerate(sources)), ask(4, *sources[:2])]
    expected, found = first_logprobs(reference, asked), first_logprobs(on_gpu, asked)
    for request, top in expected.items():
        likely = {one.token: one.micro_nats for one in found[request]}
        assert top[0].token in likely
        assert abs(likely[top[0].token] - top[0].micro_nats) < 500_000
    on_gpu.check_integrity()


def test_attention_over_pages_in_place_is_that_over_gathered_ones() -> None:
    draw = torch.Generator("cuda").manual_seed(0)
    shape = (12, 256, 3, 64)
    keys, values = (torch.randn(shape, generator=draw, device="cuda").half() for _ in range(2))
    table = torch.tensor([[3, 7], [1, 0]], dtype=torch.int32, device="cuda")
    lengths = torch.tensor([300, 17], dtype=torch.int32, device="cuda")
    for count in (1, 5):
        q = torch.randn(2, count, 9, 64, generator=draw, device="cuda").half()
        in_place, gathered = (
            attend(q, keys, values, lengths, table, 0.125)
            for attend in (flash.attend_in_place, flash.attend_gathered)
        )
        torch.testing.assert_close(in_place, gathered, atol=2e-3, rtol=2e-2)
