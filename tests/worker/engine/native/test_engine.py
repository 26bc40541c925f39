"""The engine on the compiled backend: answers that do not depend on how they came about."""

from __future__ import annotations

import pytest

from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.requests.records import Sampling
from commonlore.worker.engine.backends import why_not_native
from commonlore.worker.engine.native.library import SWITCH, load_library
from commonlore.worker.engine.native.runner import NativeRunner
from commonlore.worker.engine.torch_engine import TorchEngine
from commonlore.worker.engine.types import AdapterSource, EngineConfig, GenerationRequest
from commonlore.worker.models.reference import BaseModel

LENGTH = 24


def engine_of(tiny: BaseModel, adapters: list[AdapterSource], precision: str, **changes: int) -> TorchEngine:
    engine = TorchEngine(EngineConfig(str(tiny.directory), precision, pages=256, **changes))
    assert engine.facts.backend == "native"
    for source in adapters:
        engine.load_adapter(source)
    return engine


def asks(adapters: list[AdapterSource]) -> list[GenerationRequest]:
    """Greedy and sampled, under no adapter, each, and two."""
    compositions = [(), *((AdapterWeight(one.adapter, PPM),) for one in adapters)]
    compositions.append(tuple(AdapterWeight(one.adapter, PPM // 2) for one in adapters[:2]))
    return [
        GenerationRequest(
            bytes([index + 1]),
            Sampling(seed=index, max_tokens=LENGTH, temperature_ppm=PPM * (index % 2)),
            prompt_tokens=tuple(range(20 + index, 60 + 2 * index)),
            adapters=composition,
        )
        for index, composition in enumerate(compositions)
    ]


def answers(engine: TorchEngine, requests: list[GenerationRequest]) -> dict[bytes, list[int]]:
    found: dict[bytes, list[int]] = {request.request_id: [] for request in requests}
    for event in engine.generate(requests):
        assert not event.error
        found[event.request_id] += event.tokens
    engine.check_integrity()
    return found


@pytest.mark.parametrize("precision", ["bf16", "int4"])
def test_alone_together_and_in_chunks_are_the_same_answers(
    tiny: BaseModel, adapters: list[AdapterSource], precision: str
) -> None:
    requests = asks(adapters)
    together = answers(engine_of(tiny, adapters, precision), requests)
    engine = engine_of(tiny, adapters, precision, max_step_tokens=7)
    for request in requests:
        assert answers(engine, [request])[request.request_id] == together[request.request_id]


@pytest.mark.parametrize("precision", ["bf16", "int4"])
def test_an_answer_goes_on_elsewhere_token_for_token(
    tiny: BaseModel, adapters: list[AdapterSource], precision: str
) -> None:
    first, second = (engine_of(tiny, adapters, precision) for _ in range(2))
    for request in asks(adapters):
        whole = answers(first, [request])[request.request_id]
        for delivered in (1, 9, 17):
            rest = GenerationRequest(
                request.request_id,
                request.sampling,
                prompt_tokens=request.prompt_tokens,
                adapters=request.adapters,
                delivered=tuple(whole[:delivered]),
            )
            assert whole[:delivered] + answers(second, [rest])[request.request_id] == whole


@pytest.mark.parametrize("precision", ["bf16", "int4"])
def test_the_order_of_a_composition_changes_nothing(
    tiny: BaseModel, adapters: list[AdapterSource], precision: str
) -> None:
    parts = tuple(
        AdapterWeight(one.adapter, ppm)
        for one, ppm in zip(adapters[:3], (500_000, 300_000, 200_000), strict=True)
    )
    asked = [
        GenerationRequest(
            bytes([number]),
            Sampling(seed=4, max_tokens=LENGTH, temperature_ppm=PPM),
            prompt_tokens=tuple(range(20, 90)),
            adapters=order,
            top_logprobs=2,
        )
        for number, order in enumerate((parts, parts[::-1], parts[1:] + parts[:1]), 1)
    ]
    fresh = [logprobs_of(engine_of(tiny, adapters, precision), request) for request in asked]
    assert fresh[0] == fresh[1] == fresh[2]
    engine = engine_of(tiny, adapters, precision)
    assert [logprobs_of(engine, request) for request in asked] == fresh
    assert engine.stats().cached_tokens > 0


def logprobs_of(engine: TorchEngine, request: GenerationRequest) -> list[object]:
    return [one for event in engine.generate([request]) for one in event.logprobs]


def test_fp32_and_other_shapes_are_left_to_torch(tiny: BaseModel) -> None:
    assert why_not_native(EngineConfig(str(tiny.directory), "fp32"), tiny) is not None
    assert why_not_native(EngineConfig(str(tiny.directory), "bf16", page_size=8), tiny) is not None
    assert why_not_native(EngineConfig(str(tiny.directory), "bf16"), tiny) is None


@pytest.mark.parametrize("precision", ["bf16", "int4"])
def test_torch_answers_where_the_library_is_switched_off(
    tiny: BaseModel, adapters: list[AdapterSource], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWITCH, "0")
    load_library.cache_clear()
    try:
        engine = TorchEngine(EngineConfig(str(tiny.directory), precision, pages=256))
    finally:
        load_library.cache_clear()
    assert engine.facts.backend == "torch"
    for source in adapters:
        engine.load_adapter(source)
    requests = asks(adapters)
    assert all(len(tokens) == LENGTH for tokens in answers(engine, requests).values())


def test_what_was_said_of_slots_is_forgotten_when_no_step_needs_it(
    tiny: BaseModel, adapters: list[AdapterSource]
) -> None:
    """Else every weight that a stranger thinks of would stay."""
    engine = engine_of(tiny, adapters, "bf16")
    runner = engine._runner
    assert isinstance(runner, NativeRunner)
    first, second = (source.adapter for source in adapters[:2])
    for weight in range(1, 20):
        both = (AdapterWeight(first, weight), AdapterWeight(second, PPM - weight))
        answers(engine, [GenerationRequest(b"x", Sampling(1, 2), prompt_tokens=(5, 6), adapters=both)])
        assert len(runner._lows) == 2
