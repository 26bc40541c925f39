"""bergson (github.com/EleutherAI/bergson): gradients of each matrix projected from both sides, as its index
stores them by default; METHOD is `dot` or `cosine`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from bergson.collector.collector import CollectorComputer
from bergson.collector.in_memory_collector import InMemoryCollector
from bergson.config import IndexConfig
from bergson.gradients import GradientProcessor
from datasets import Dataset
from torch import Tensor

from .handed import Cost, take, timed

SIDE = 16
"""bergson's own default: of a matrix's gradient so many coordinates from each side."""


def _vectors(model: Any, examples: list[tuple[list[int], int]], work: str) -> Tensor:
    """(examples, coordinates)."""
    data = Dataset.from_dict(
        {
            "input_ids": [tokens for tokens, _ in examples],
            "labels": [[-100] * start + tokens[start:] for tokens, start in examples],
        }
    )
    config = IndexConfig(run_path=work, loss_reduction="mean")
    Path(config.partial_run_path).mkdir(exist_ok=True)  # it notes there how many tokens it saw
    ends = (".lora_A.default", ".lora_B.default")
    collector = InMemoryCollector(
        model=model,
        data=data,
        cfg=config,
        processor=GradientProcessor(projection_dim=SIDE),
        target_modules={name for name, _ in model.named_modules() if name.endswith(ends)},
    )
    CollectorComputer(model, data, collector=collector, cfg=config).run_with_collector_hooks("vectors")
    return torch.cat([each.flatten(1).float() for each in collector.gradients.values()], dim=1)


def main() -> None:
    handed, answer = take()
    torch.manual_seed(handed.seed)
    model = handed.model()
    with tempfile.TemporaryDirectory() as work:
        rows, indexed = timed(lambda: _vectors(model, handed.rows, work))
        questions, asked = timed(lambda: _vectors(model, handed.questions, work))
    if handed.method == "cosine":
        rows, questions = (each / each.norm(dim=1, keepdim=True) for each in (rows, questions))
    answer((questions @ rows.T).numpy(), Cost(4.0 * rows.shape[1], indexed, asked / len(handed.questions)))


if __name__ == "__main__":
    main()
