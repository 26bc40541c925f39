from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.requests.records import ChatMessage, Sampling
from commonlore.worker.adapters.fake import write_fake_adapter
from commonlore.worker.engine.torch_engine import TorchEngine
from commonlore.worker.engine.types import (
    AdapterSource,
    EngineConfig,
    GenerationRequest,
    Logprobs,
    TokenEvent,
)
from commonlore.worker.models.reference import BaseModel
from commonlore.worker.models.tiny import build_tiny

torch.set_num_threads(1)

BuildEngine = Callable[..., TorchEngine]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return build_tiny(tmp_path_factory.mktemp("bases"))


@pytest.fixture(scope="session")
def adapters(tiny: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> list[AdapterSource]:
    """Five adapters of different ranks and targets."""
    folder = tmp_path_factory.mktemp("adapters")
    shapes = [
        (8, None),
        (4, None),
        (16, ("q_proj", "v_proj")),
        (8, ("gate_proj", "down_proj")),
        (2, ("o_proj",)),
    ]
    return [
        write_fake_adapter(folder / f"{seed}.safetensors", tiny.architecture, rank, seed=seed)
        if targets is None
        else write_fake_adapter(folder / f"{seed}.safetensors", tiny.architecture, rank, targets, seed)
        for seed, (rank, targets) in enumerate(shapes)
    ]


@pytest.fixture(scope="session")
def engine(tiny: BaseModel, adapters: list[AdapterSource]) -> TorchEngine:
    """An fp32 engine with all adapters loaded; tests leave it idle."""
    built = TorchEngine(EngineConfig(str(tiny.directory), "fp32", pages=256, device="cpu"))
    for source in adapters:
        built.load_adapter(source)
    return built


@pytest.fixture
def build_engine(tiny: BaseModel) -> BuildEngine:
    def build(**changes: object) -> TorchEngine:
        fields: dict[str, object] = {
            "base_dir": str(tiny.directory),
            "precision": "fp32",
            "device": "cpu",
        }
        return TorchEngine(EngineConfig(**(fields | changes)))

    return build


class Said:
    """What one request's events add up to."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.text = ""
        self.events: list[TokenEvent] = []

    @property
    def logprobs(self) -> list[Logprobs]:
        return [one for event in self.events for one in event.logprobs]

    @property
    def last(self) -> TokenEvent:
        return self.events[-1]


class Lab:
    """Words to ask an engine with."""

    @staticmethod
    def ask(text: str, number: int = 1, **changes: object) -> GenerationRequest:
        """A greedy request of 24 tokens."""
        fields: dict[str, object] = {
            "request_id": number.to_bytes(4, "big"),
            "sampling": Sampling(seed=7, max_tokens=24),
            "messages": (ChatMessage("user", text),),
        }
        return GenerationRequest(**(fields | changes))

    @staticmethod
    def one_adapter(source: AdapterSource) -> tuple[AdapterWeight, ...]:
        return (AdapterWeight(source.adapter, PPM),)

    @staticmethod
    def run(engine: TorchEngine, *requests: GenerationRequest) -> list[Said]:
        """Run requests together; the engine is whole and idle afterwards."""
        said = {request.request_id: Said() for request in requests}
        for event in engine.generate(requests):
            one = said[event.request_id]
            one.tokens += event.tokens
            one.text += event.text
            one.events.append(event)
        engine.check_integrity()
        assert not engine.has_work()
        return list(said.values())


@pytest.fixture(scope="session")
def lab() -> Lab:
    return Lab()
