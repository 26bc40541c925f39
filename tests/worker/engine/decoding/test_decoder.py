"""Logits against transformers, for every family: whole prompts, chunks, and decoding beside strangers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from commonlore.worker.engine.batching.sequence import Sequence as Running
from commonlore.worker.engine.batching.steps import Work
from commonlore.worker.engine.decoding.cache import KvCache
from commonlore.worker.engine.decoding.decoder import Decoder
from commonlore.worker.engine.decoding.tensors import build_batch
from commonlore.worker.engine.lora.plan import LoraPlan
from commonlore.worker.engine.memory.weights import load_weights
from commonlore.worker.models.reference import BaseModel
from commonlore.worker.models.tiny import build_tiny

PAGE = 4
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-tied": {"tie_word_embeddings": True},
    "llama-wide-heads": {"head_dim": 32},
    "llama3-rope": {"rope_parameters": LLAMA3},
    "linear-rope": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}},
    "mistral": {"model_type": "mistral"},
    "qwen2": {"model_type": "qwen2"},
    "qwen3": {"model_type": "qwen3"},
}


def run_decoder(base: BaseModel, plan: Sequence[Sequence[tuple[list[int], int, int]]]) -> torch.Tensor:
    """The last step's logits; its works are (tokens, start, count), one sequence a place."""
    decoder = Decoder(base.architecture, load_weights(base.weights(), base.architecture, "fp32"), 256)
    cache = KvCache(base.architecture, 64, PAGE, torch.float32)
    logits = torch.empty(0)
    for step in plan:
        works = [
            Work(Running(None, b"", tokens, list(range(1 + 16 * place, 17 + 16 * place))), start, count)  # type: ignore[arg-type]
            for place, (tokens, start, count) in enumerate(step)
        ]
        logits = decoder.forward(build_batch(works, PAGE), cache, LoraPlan())
    return logits


@pytest.fixture(scope="module", params=VARIANTS)
def oracle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[BaseModel, Any]:
    base = build_tiny(tmp_path_factory.mktemp("base"), changes=VARIANTS[request.param])
    return base, AutoModelForCausalLM.from_pretrained(base.directory, dtype=torch.float32).eval()


def prompts() -> list[list[int]]:
    drawn = torch.Generator().manual_seed(1)
    return [torch.randint(3, 300, (n,), generator=drawn).tolist() for n in (41, 7, 23)]


@torch.inference_mode()
def expected(model: Any, tokens: list[int]) -> torch.Tensor:
    found: torch.Tensor = model(torch.tensor([tokens])).logits[0, -1]
    return found


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


def test_prompts_side_by_side(oracle: tuple[BaseModel, Any]) -> None:
    base, model = oracle
    found = run_decoder(base, [[(tokens, 0, len(tokens)) for tokens in prompts()]])
    for row, tokens in zip(found, prompts(), strict=True):
        close(row, expected(model, tokens))


def test_a_prompt_in_chunks(oracle: tuple[BaseModel, Any]) -> None:
    base, model = oracle
    tokens = prompts()[0]
    close(
        run_decoder(base, [[(tokens, 0, 10)], [(tokens, 10, 17)], [(tokens, 27, 14)]])[0],
        expected(model, tokens),
    )


def test_decoding_beside_a_prompt(oracle: tuple[BaseModel, Any]) -> None:
    base, model = oracle
    long, short, other = prompts()
    found = run_decoder(
        base,
        [[(long, 0, 40), (short, 0, 6)], [(long, 40, 1), (short, 6, 1), (other, 0, 23)]],
    )
    for row, tokens in zip(found, (long, short, other), strict=True):
        close(row, expected(model, tokens))


def test_bf16_stays_near(tiny: BaseModel, tmp_path: Path) -> None:
    tokens = prompts()[0]
    weights = load_weights(tiny.weights(), tiny.architecture, "bf16")
    work = Work(Running(None, b"", tokens, list(range(1, 17))), 0, len(tokens))  # type: ignore[arg-type]
    cache = KvCache(tiny.architecture, 64, PAGE, torch.bfloat16)
    found = Decoder(tiny.architecture, weights, 256).forward(build_batch([work], PAGE), cache, LoraPlan())
    wanted = run_decoder(tiny, [[(tokens, 0, len(tokens))]])
    assert found.dtype == torch.float32
    assert torch.linalg.norm(found - wanted) / torch.linalg.norm(wanted) < 0.03
