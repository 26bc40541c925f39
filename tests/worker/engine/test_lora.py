"""Another adapter on every row, against peft: prompts, decoding, bases in between, compositions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from commonlore.protocol.requests import AdapterWeight
from commonlore.worker.engine.torch_engine import TorchEngine
from commonlore.worker.engine.types import AdapterSource
from commonlore.worker.models.reference import BaseModel

# peft 0.21 asks transformers 5.23 for the attribute under its old name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def peft_model(
    tiny: BaseModel, adapters: list[AdapterSource], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """The same adapters under peft, named 0, 1, …"""
    model: Any = AutoModelForCausalLM.from_pretrained(tiny.directory, dtype=torch.float32)
    for number, source in enumerate(adapters):
        folder = tmp_path_factory.mktemp(f"peft{number}")
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
