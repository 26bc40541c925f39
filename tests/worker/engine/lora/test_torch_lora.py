"""Another adapter on every row, against peft: prompts, decoding, bases in between, compositions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.requests.records import Sampling
from commonlore.worker.adapters.fake import write_fake_adapter
from commonlore.worker.engine.torch_engine import TorchEngine
from commonlore.worker.engine.types import AdapterSource
from commonlore.worker.models.architecture import LINEARS
from commonlore.worker.models.reference import BaseModel

# peft 0.21 asks transformers 5.23 for the attribute under its old name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


RANKED = [
    (8, LINEARS),
    (16, LINEARS),
    (32, LINEARS),
    (64, LINEARS),
    (5, ("q_proj",)),
    (64, ("q_proj", "v_proj")),
    (32, ("k_proj", "o_proj", "up_proj")),
    (16, ("down_proj",)),
    (8, ("gate_proj", "up_proj")),
]
"""Every bucket, and sets of targets that fill each fused linear in part."""


@pytest.fixture(scope="module")
def peft_model(
    tiny: BaseModel, adapters: list[AdapterSource], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    return under_peft(tiny, adapters, tmp_path_factory.mktemp("peft"))


@pytest.fixture(scope="module")
def ranked(tiny: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> list[AdapterSource]:
    folder = tmp_path_factory.mktemp("ranked")
    return [
        write_fake_adapter(folder / f"{seed}", tiny.architecture, rank, targets, seed=100 + seed)
        for seed, (rank, targets) in enumerate(RANKED)
    ]


def under_peft(base: BaseModel, sources: list[AdapterSource], parent: Path) -> Any:
    """The same adapters under peft, named 0, 1, …"""
    model: Any = AutoModelForCausalLM.from_pretrained(base.directory, dtype=torch.float32)
    for number, source in enumerate(sources):
        folder = parent / str(number)
        folder.mkdir()
        config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": source.rank, "lora_alpha": source.alpha}
        (folder / "adapter_config.json").write_text(
            json.dumps(config | {"target_modules": list(source.targets)})
        )
        (folder / "adapter_model.safetensors").write_bytes(Path(source.path).read_bytes())
        if number == 0:
            model = PeftModel.from_pretrained(model, folder, adapter_name="0")
        else:
            model.load_adapter(folder, adapter_name=str(number))
    return model.eval()


@torch.inference_mode()
def peft_logprobs(model: Any, tokens: list[int], name: str) -> torch.Tensor:
    logits = model(torch.tensor([tokens]), adapter_names=[name]).logits[0]
    found: torch.Tensor = torch.log_softmax(logits.double(), -1)
    return found


def check(model: Any, name: str, said: Any, prompt: list[int]) -> None:
    """Every token's log-probabilities, top 20, within 1e-4 of peft's."""
    wanted = peft_logprobs(model, prompt + said.tokens, name)
    for position, one in enumerate(entry for event in said.events for entry in event.logprobs):
        row = wanted[len(prompt) - 1 + position]
        assert len(one.top) == 20
        for entry in (one.chosen, *one.top):
            assert abs(-entry.micro_nats / 1e6 - float(row[entry.token])) < 1e-4


def test_every_row_its_own_adapter(
    lab, engine: TorchEngine, adapters: list[AdapterSource], peft_model: Any, tiny: BaseModel
) -> None:
    names = ["0", "1", "__base__", "2", "3", "4", "0"]
    requests = [
        lab.ask(f"a question, number {n}", n, top_logprobs=20)
        if name == "__base__"
        else lab.ask(
            f"a question, number {n}", n, top_logprobs=20, adapters=lab.one_adapter(adapters[int(name)])
        )
        for n, name in enumerate(names)
    ]
    answers = lab.run(engine, *requests)
    tokenizer = tiny.tokenizer()
    for name, request, said in zip(names, requests, answers, strict=True):
        check(peft_model, name, said, tokenizer.encode_chat(request.messages))
    assert len({tuple(said.tokens) for said in answers}) == len(names)


def test_all_rows_the_same_adapter(
    lab, engine: TorchEngine, adapters: list[AdapterSource], peft_model: Any, tiny: BaseModel
) -> None:
    requests = [
        lab.ask(f"number {n}", n, top_logprobs=20, adapters=lab.one_adapter(adapters[1])) for n in range(4)
    ]
    for request, said in zip(requests, lab.run(engine, *requests), strict=True):
        check(peft_model, "1", said, tiny.tokenizer().encode_chat(request.messages))


def test_a_composition_is_the_weighted_sum(
    lab, engine: TorchEngine, adapters: list[AdapterSource], peft_model: Any, tiny: BaseModel
) -> None:
    weights = (250_000, 350_000, 400_000)
    peft_model.add_weighted_adapter(
        ["0", "1", "2"], [w / 1e6 for w in weights], "sum", combination_type="cat"
    )
    composed = tuple(AdapterWeight(adapters[n].adapter, weights[n]) for n in range(3))
    requests = [lab.ask("composed", 1, top_logprobs=20, adapters=composed), lab.ask("plain", 2)]
    requests.append(lab.ask("one", 3, top_logprobs=20, adapters=lab.one_adapter(adapters[3])))
    said = lab.run(engine, *requests)
    check(peft_model, "sum", said[0], tiny.tokenizer().encode_chat(requests[0].messages))
    check(peft_model, "3", said[2], tiny.tokenizer().encode_chat(requests[2].messages))


def test_all_ranks_and_targets_in_one_batch_before_and_after_eviction(
    lab, build_engine, tiny: BaseModel, ranked: list[AdapterSource], tmp_path: Path
) -> None:
    """The first engine has a slot for each; the second two slots, and RAM for two of the largest: its
    adapters are evicted and loaded again between two rounds of the same questions.
    """
    model = under_peft(tiny, ranked, tmp_path)
    few = Sampling(seed=7, max_tokens=6)
    requests = [
        lab.ask(f"number {n}", n, sampling=few, top_logprobs=20, adapters=lab.one_adapter(source))
        for n, source in enumerate(ranked)
    ]
    prompts = [tiny.tokenizer().encode_chat(request.messages) for request in requests]
    roomy, tight = (
        build_engine(max_batch=16),
        build_engine(slots=2, adapter_ram=2 * build_engine().facts.packed_bytes(64)),
    )
    for source in ranked:
        roomy.load_adapter(source)
    for name, said in enumerate(lab.run(roomy, *requests)):
        check(model, str(name), said, prompts[name])
    for _ in range(2):
        for first in range(0, len(ranked), 2):
            pair = requests[first : first + 2]
            for source in ranked[first : first + 2]:
                tight.load_adapter(source)
            for name, said in enumerate(lab.run(tight, *pair), first):
                check(model, str(name), said, prompts[name])
    assert tight.stats().slot_evictions >= 2 * len(ranked) - 2


def test_a_composition_of_several_ranks_beside_single_adapters(
    lab, build_engine, tiny: BaseModel, ranked: list[AdapterSource], tmp_path: Path
) -> None:
    model = under_peft(tiny, ranked, tmp_path)
    engine = build_engine()
    for source in ranked:
        engine.load_adapter(source)
    parts = {0: 300_000, 3: 500_000, 5: 200_000}
    model.add_weighted_adapter(
        [str(n) for n in parts], [w / PPM for w in parts.values()], "sum", combination_type="cat"
    )
    composed = tuple(AdapterWeight(ranked[n].adapter, weight) for n, weight in parts.items())
    names = ["0", "sum", "3", "sum", "5", "sum", "__base__"]
    requests = [
        lab.ask(f"number {n}", n, sampling=Sampling(seed=7, max_tokens=6 + n), top_logprobs=20)
        if name == "__base__"
        else lab.ask(
            f"number {n}",
            n,
            sampling=Sampling(seed=7, max_tokens=6 + n),
            top_logprobs=20,
            adapters=composed if name == "sum" else lab.one_adapter(ranked[int(name)]),
        )
        for n, name in enumerate(names)
    ]
    for name, request, said in zip(names, requests, lab.run(engine, *requests), strict=True):
        check(model, name, said, tiny.tokenizer().encode_chat(request.messages))
