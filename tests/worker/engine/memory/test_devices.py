"""Where an engine computes: the choice, and that nothing on the way to the logits stays on the CPU.

The meta device stands for a GPU: its tensors have no numbers, but operators refuse them beside the CPU's.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from commonlore.protocol.errors import ConfigError, MissingDependency
from commonlore.worker.adapters.validate import check_adapter_file
from commonlore.worker.engine.backends import choose_backend
from commonlore.worker.engine.batching.sequence import Sequence as Running
from commonlore.worker.engine.batching.slots import Move, Place
from commonlore.worker.engine.batching.steps import Work
from commonlore.worker.engine.decoding.attention import plan_gathered
from commonlore.worker.engine.decoding.cache import KvCache
from commonlore.worker.engine.decoding.decoder import Decoder
from commonlore.worker.engine.decoding.lora_choice import choose_lora
from commonlore.worker.engine.decoding.tensors import build_batch
from commonlore.worker.engine.engine import LoadedAdapter
from commonlore.worker.engine.lora.plan import LoraPlan, PromptTerms, SlotTerm
from commonlore.worker.engine.lora.slot_pools import SlotPools
from commonlore.worker.engine.lora.torch_lora import TorchLora, TorchLoraLayout
from commonlore.worker.engine.memory import devices
from commonlore.worker.engine.memory.weights import DTYPES, load_weights
from commonlore.worker.engine.process.wire import error_of, failure_of
from commonlore.worker.engine.types import AdapterSource, EngineConfig
from commonlore.worker.models.reference import BaseModel

META = torch.device("meta")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)


def test_auto_without_a_gpu_is_the_cpu(no_gpu: None) -> None:
    assert devices.choose_device("auto") == devices.choose_device("cpu") == torch.device("cpu")


def test_cuda_without_a_gpu_says_what_to_do(no_gpu: None) -> None:
    with pytest.raises(MissingDependency, match="set device to auto or cpu"):
        devices.choose_device("cuda")


def test_a_gpu_is_taken_unless_the_cpu_is_wanted(a_gpu: None) -> None:
    assert devices.choose_device("auto") == devices.choose_device("cuda") == torch.device("cuda", 0)
    assert devices.choose_device("cpu") == torch.device("cpu")


def test_other_words_are_refused() -> None:
    with pytest.raises(ConfigError, match="choose one of auto, cpu, cuda"):
        devices.choose_device("tpu")


@pytest.mark.parametrize("error", [MissingDependency("none"), ConfigError("unknown")])
def test_the_errors_reach_the_node_as_they_are(error: MissingDependency | ConfigError) -> None:
    assert type(error_of(failure_of(error))) is type(error)


def test_the_backend_follows_the_device(tiny: BaseModel, a_gpu: None) -> None:
    on_gpu = choose_backend(EngineConfig(str(tiny.directory)), tiny, 64)
    assert (on_gpu.name, on_gpu.layout.device) == ("cuda", torch.device("cuda", 0))
    on_cpu = choose_backend(EngineConfig(str(tiny.directory), "fp32", device="cpu"), tiny, 64)
    assert (on_cpu.name, on_cpu.layout.device) == ("torch", torch.device("cpu"))


def test_the_cpu_multiplies_adapters_with_torch(tiny: BaseModel) -> None:
    layout = TorchLoraLayout(tiny.architecture, torch.float32)
    assert isinstance(choose_lora(tiny.architecture, layout, SlotPools(layout, 1)), TorchLora)


def test_without_triton_a_gpu_multiplies_adapters_with_torch(
    tiny: BaseModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "commonlore.worker.engine.lora.triton_lora", None)
    layout = TorchLoraLayout(tiny.architecture, torch.float32, torch.device("cuda", 0))
    assert isinstance(choose_lora(tiny.architecture, layout, SlotPools(layout, 1)), TorchLora)
    assert "not with Triton's kernels" in caplog.text


def works() -> list[Work]:
    """Two rows that decode, a chunk amid its prompt, a whole prompt."""
    tokens = list(range(3, 60))
    spans = [(21, 1), (5, 1), (4, 9), (0, 7)]
    return [
        Work(Running(None, b"", tokens, list(range(1 + 16 * place, 17 + 16 * place))), start, count)  # type: ignore[arg-type]
        for place, (start, count) in enumerate(spans)
    ]


def filled_pools(
    base: BaseModel, sources: list[AdapterSource], dtype: torch.dtype
) -> tuple[TorchLora, LoraPlan]:
    """Every kind of row: composed, single, a prompt's."""
    layout = TorchLoraLayout(base.architecture, dtype, META)
    unpinned = TorchLoraLayout(base.architecture, dtype)  # pinned memory needs a driver
    pools = SlotPools(layout, len(sources))
    terms: list[SlotTerm] = []
    for slot, source in enumerate(sources, 1):
        place = Place(layout.bucket_of(source), slot)
        with pools.prepare(source.adapter, place.bucket):
            packed = unpinned.pack(check_adapter_file(Path(source.path), source, base.architecture), source)
        pools.apply([Move(place, source.adapter)], {source.adapter: LoadedAdapter(source, packed)})
        terms.append(SlotTerm(place.bucket, slot, 0.5))
    prompts = (PromptTerms(2, 11, (terms[3],)), PromptTerms(11, 18, ()))
    return TorchLora(layout, pools), LoraPlan(((terms[0], terms[2]), (terms[1],)), prompts)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_stays_on_its_device(tiny: BaseModel, adapters: list[AdapterSource], precision: str) -> None:
    dtype = DTYPES[precision]
    lora, lora_plan = filled_pools(tiny, adapters, dtype)
    weights = load_weights(tiny.weights(), tiny.architecture, precision, META)
    decoder = Decoder(tiny.architecture, weights, 256, lora)
    cache = KvCache(tiny.architecture, 80, 4, dtype, META)
    logits = decoder.forward(build_batch(works(), 4, META, plan_gathered), cache, lora_plan)
    cache.scrub([3, 5])
    assert (logits.device, logits.shape) == (META, (4, tiny.architecture.vocabulary))
