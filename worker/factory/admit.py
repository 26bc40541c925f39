"""The measuring half of `admission`: how much likelier rows are in their own order, to the plain base and
after learning from other rows of the same contributor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from torch.optim import AdamW

from ..models.reference import BaseModel, load_base
from .admission import FEWEST_LEARNT, AdmissionJob, Gains, Sample, is_sure, read_admission, write_gains
from .examples import Encoder, Example, batches
from .job import Pair, TrainConfig, TrainProgress
from .lessons import shared_lesson
from .lora import DTYPES, adapter_parameters, add_adapter, initial_factor, load_model
from .packing import mean_loss
from .train import take_step

MAX_TOKENS = 256
"""What of a row is measured."""
ROUNDS = 2
"""Who is told from noise after the first lessons teaches in the second."""
LEARNING = TrainConfig(steps=12)
"""As adapters are trained; measured in the same precision, several times faster than in fp32."""
Report = Callable[[TrainProgress], None]


def run_admission(job_dir: Path, report: Report) -> None:
    """Measure the folder's samples and write their gains.

    Raises ConfigError, InvalidModel, TrainingFailed.
    """
    job = read_admission(job_dir)
    write_gains(job_dir, measure_gains(load_base(job.base), job, report))
    report(TrainProgress("admitting", len(job.samples), len(job.samples)))


def measure_gains(base: BaseModel, job: AdmissionJob, report: Report) -> list[Gains]:
    """Everybody's gains to the plain base; of those who do not surely gain, after learning, too."""
    measuring = _Measuring(base)
    gains: list[Gains] = []
    for number, sample in enumerate(job.samples):
        report(TrainProgress("admitting", number, len(job.samples)))
        gains.append(Gains(measuring.gains(sample)))
    unsure = [number for number, own in enumerate(gains) if own.plain and not is_sure(own.plain)]
    for number in unsure:
        if job.samples[number].half is None:
            measuring.learn(job.samples[number].learnt)
            gains[number] = Gains(gains[number].plain, measuring.gains(job.samples[number]))
    for _ in range(ROUNDS):
        waiting = [number for number in unsure if not gains[number].is_language]
        _teach_small(measuring, job, gains, waiting)
        if not any(gains[number].is_language for number in waiting):
            break  # nobody who could teach the others anything
    return gains


def _teach_small(
    measuring: _Measuring, job: AdmissionJob, gains: list[Gains], waiting: Sequence[int]
) -> None:
    """Measure anew those of few rows, after a lesson for each half of them."""
    lessons = [shared_lesson(job.samples, gains, half) for half in (0, 1)]
    for half, lesson in enumerate(lessons):
        learners = [number for number in waiting if job.samples[number].half == half]
        if learners and len(lesson) >= FEWEST_LEARNT:
            measuring.learn(lesson)
            for number in learners:
                gains[number] = Gains(gains[number].plain, measuring.gains(job.samples[number]))


class _Measuring:
    """A base, into which an adapter is put when there is something to learn."""

    def __init__(self, base: BaseModel) -> None:
        self._encoder = Encoder(base)
        self._model: Any = load_model(base, DTYPES[LEARNING.precision])
        self._parameters: dict[str, Any] = {}

    def gains(self, sample: Sample) -> tuple[float, ...]:
        """Of each measured row: nats a token by which it is likelier than in the other order."""
        return tuple(self._loss(other) - self._loss(one) for one, other in sample.measured)

    def learn(self, rows: Sequence[Pair]) -> None:
        """Teach a fresh adapter these rows, and nothing that was learnt before."""
        if not self._parameters:
            add_adapter(self._model, LEARNING)
            self._parameters = adapter_parameters(self._model)
        for name, tensor in self._parameters.items():
            tensor.data = initial_factor(LEARNING.seed, name, tuple(tensor.shape))
        examples = [self._encode(row) for row in rows]
        config = replace(LEARNING, steps=max(LEARNING.steps, len(rows) // 2))
        optimizer = AdamW(self._parameters.values(), lr=0.0, weight_decay=0.0, fused=True)
        order = batches(config.seed, len(examples), config.batch_size)
        for step, batch in enumerate(islice(order, config.steps), 1):
            take_step(self._model, optimizer, config, step, [examples[number] for number in batch])

    def _loss(self, pair: Pair) -> float:
        """Nats a token of an answer, of what fits."""
        return mean_loss(self._model, [self._encode(pair)], 1, DTYPES[LEARNING.precision]) or 0.0

    def _encode(self, pair: Pair) -> Example:
        example = self._encoder.pair(pair)
        if len(example.tokens) > MAX_TOKENS and example.answer_start < MAX_TOKENS - 1:
            example = Example(example.tokens[:MAX_TOKENS], example.answer_start)
        return example
