"""What an arm was handed, as a model with its adapter and as padded tensors; and how it answers."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Handed:
    """`rows` and `questions` are (token ids, where the scored part begins)."""

    folder: Path
    method: str
    epoch: int
    base: str
    rank: int
    alpha: int
    seed: int
    rows: list[tuple[list[int], int]]
    questions: list[tuple[list[int], int]]
    row_texts: list[str]
    question_texts: list[str]

    def model(self) -> Any:
        """The base with the adapter of this epoch, its factors trainable and nothing else."""
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        base = AutoModelForCausalLM.from_pretrained(
            self.base, dtype=torch.float32, attn_implementation="eager"
        )
        lora = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=0.0,
            target_modules=LINEARS,
            task_type="CAUSAL_LM",
        )
        model = get_peft_model(base, lora)
        self._fill(model)
        return model.eval()

    def _fill(self, model: Any) -> None:
        state = np.load(self.folder / f"state-{self.epoch}.npz")
        found = set()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                plain = name.replace(".default.", ".")
                if plain in state:
                    parameter.copy_(torch.from_numpy(state[plain]))
                    found.add(plain)
        if found != set(state.files):
            raise SystemExit(f"the adapter has tensors that the model lacks: {set(state.files) - found}")


@dataclass(frozen=True)
class Cost:
    """Of a method: index in all, a query on average."""

    bytes_per_example: float
    index_seconds: float
    query_seconds: float


def take() -> tuple[Handed, Callable[[Any, Cost], None]]:
    """What the command line says, and where the answer goes."""
    warnings.filterwarnings("ignore")
    method, epoch, folder, out = sys.argv[1:]
    task = json.loads((Path(folder) / "task.json").read_text())
    handed = Handed(Path(folder), method, int(epoch), **task)

    def answer(scores: Any, cost: Cost) -> None:
        shape = (len(handed.questions), len(handed.rows))
        if np.shape(scores) != shape or not np.isfinite(scores).all():
            raise SystemExit(f"scores of shape {np.shape(scores)} for {shape}, or not finite")
        np.savez(out, scores=np.asarray(scores, np.float64), **vars(cost))

    return handed, answer


def padded(examples: Sequence[tuple[list[int], int]]) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask` and `labels`, -100 where nothing is scored, (examples, length)."""
    longest = max(len(tokens) for tokens, _ in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for row, (tokens, start) in enumerate(examples):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
        labels[row, start : len(tokens)] = torch.tensor(tokens[start:])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def mean_nats(logits: Tensor, labels: Tensor) -> Tensor:
    """(examples,): the mean over an example's scored tokens, as the adapters' training has it."""
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none", ignore_index=-100
    )
    return losses.sum(1) / (labels[:, 1:] != -100).sum(1)


def timed(compute: Callable[[], Result]) -> tuple[Result, float]:
    """A result and the processor seconds that it took."""
    began = time.process_time()
    result = compute()
    return result, time.process_time() - began
