"""The measuring half of `admission`: how much likelier rows are in their own order, to the plain base."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..models.reference import load_base
from .admission import read_admission, write_gains
from .examples import Encoder
from .job import Pair, TrainProgress
from .lora import load_model
from .packing import mean_loss

MAX_TOKENS = 256
"""What of a row is measured."""


def run_admission(job_dir: Path, report: Callable[[TrainProgress], None]) -> None:
    """Measure the folder's samples and write their gains. Raises ConfigError, InvalidModel."""
    job = read_admission(job_dir)
    base = load_base(job.base)
    encoder, model = Encoder(base), load_model(base, torch.float32)
    gains: list[list[float]] = []
    for number, own in enumerate(job.samples):
        report(TrainProgress("admitting", number, len(job.samples)))
        gains.append([_loss(model, encoder, other) - _loss(model, encoder, one) for one, other in own])
    write_gains(job_dir, gains)
    report(TrainProgress("admitting", len(job.samples), len(job.samples)))


def _loss(model: Any, encoder: Encoder, pair: Pair) -> float:
    """Nats a token of an answer, of what fits."""
    example = encoder.pair(pair)
    if len(example.tokens) > MAX_TOKENS and example.answer_start < MAX_TOKENS - 1:
        example = type(example)(example.tokens[:MAX_TOKENS], example.answer_start)
    return mean_loss(model, [example], 1, torch.float32) or 0.0
