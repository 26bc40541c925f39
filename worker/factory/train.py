"""One training run, from a job's folder to an adapter in it.

Rules of this file:
- The outcome is a function of the job, the base and the machine's arithmetic; stopping and resuming changes
  nothing.
- The order of what appears: early checkpoint, adapter, curvature, result. What is measured at the end is the
  file that will be served, read back, not the weights that it was rounded from.
- The early checkpoint is what attribution is computed at: gradients of a model that has learnt its rows are
  noise (early.py).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.optim import AdamW

from ...protocol.errors import TrainingFailed
from ..models.reference import BaseModel, load_base
from .checkpoint import (
    file_sha256,
    read_adapter,
    read_checkpoint,
    remove_checkpoint,
    sync_directory,
    write_adapter,
    write_checkpoint,
)
from .curvature import fit_early
from .early import EarlyMean
from .examples import Encoder, Example, batches
from .job import (
    ADAPTER_FILE,
    CURVATURE_FILE,
    EARLY_FILE,
    TrainConfig,
    TrainJob,
    TrainProgress,
    TrainResult,
    job_digest,
    read_job,
    read_result,
    write_result,
)
from .lora import DTYPES, adapter_parameters, add_adapter, load_model, set_adapter
from .packing import answer_losses, mean_loss, pack, portions

Report = Callable[[TrainProgress], None]
MEASURED_ROWS = 16
"""Training rows whose loss is measured, spread evenly; held-out rows are all measured."""
_CLIP = 1.0


@dataclass(frozen=True, slots=True)
class Losses:
    """Nats a token of answer; None where no row scores one."""

    heldout: float | None
    training: float | None


def run_job(job_dir: Path, report: Report) -> TrainResult:
    """Train the folder's job to its end, from wherever it stands.

    Raises ConfigError, InvalidModel, TrainingFailed.
    """
    job = read_job(job_dir)
    base = load_base(job.base)
    digest = job_digest(job, base.id)
    result = read_result(job_dir)
    if result is None or not _stands(job_dir, result, digest):
        report(TrainProgress("loading", 0, 1))
        result = _Run(job_dir, job, base, digest).finish(report)
    report(TrainProgress("done", result.steps, result.steps, seconds=result.seconds))
    return result


def train_early(job_dir: Path, report: Report = lambda _progress: None) -> Path:
    """Train the folder's job as far as its early checkpoint, from wherever it stands; that file. Raises as
    `run_job`."""
    run = _open(job_dir)
    run.reach(run.early.steps[-1], report)
    return job_dir / EARLY_FILE


def train_adapter(job_dir: Path, report: Report = lambda _progress: None) -> Path:
    """Train the folder's job to its adapter, from wherever it stands, and measure nothing; that file. Raises
    as `run_job`."""
    run = _open(job_dir)
    run.reach(run.config.steps, report)
    run.write()
    remove_checkpoint(job_dir)
    return job_dir / ADAPTER_FILE


def _open(job_dir: Path) -> _Run:
    job = read_job(job_dir)
    base = load_base(job.base)
    return _Run(job_dir, job, base, job_digest(job, base.id))


def _stands(job_dir: Path, result: TrainResult, digest: str) -> bool:
    """Whether a result belongs to this job and its files are still what it says."""
    names = {ADAPTER_FILE: result.weights_sha256, EARLY_FILE: result.early_sha256}
    if result.curvature_sha256 is not None:
        names[CURVATURE_FILE] = result.curvature_sha256
    return result.digest == digest and all(
        (job_dir / name).is_file() and file_sha256(job_dir / name) == sha256 for name, sha256 in names.items()
    )


class _Run:
    def __init__(self, job_dir: Path, job: TrainJob, base: BaseModel, digest: str) -> None:
        self.job_dir = job_dir
        self.config = job.config
        self.digest = digest
        encoder = Encoder(base)
        self.base = base
        self.rows = [encoder.pair(pair) for pair in job.rows]
        self.early = EarlyMean(job.config.early_steps(len(self.rows)))
        self.heldout = [encoder.pair(pair) for pair in job.heldout]
        self.dtype = DTYPES[job.config.precision]
        self.model: Any = load_model(base, self.dtype)
        add_adapter(self.model, job.config)
        self.parameters = adapter_parameters(self.model)
        self.optimizer = AdamW(self.parameters.values(), lr=0.0, weight_decay=0.0, fused=True)
        self.seconds = 0.0

    def finish(self, report: Report) -> TrainResult:
        report(TrainProgress("measuring", 0, 2))
        before = self._measure()  # B is zero before the first step: this is the plain base
        self.reach(self.config.steps, report)
        self.write()
        set_adapter(self.model, read_adapter(self.job_dir / ADAPTER_FILE))
        report(TrainProgress("measuring", 1, 2))
        after = self._measure()
        fit_early(self.job_dir, self.base, self.config, self.rows, report)
        result = self._result(before, after)
        write_result(self.job_dir, result)
        sync_directory(self.job_dir)
        remove_checkpoint(self.job_dir)
        return result

    def reach(self, last: int, report: Report) -> None:
        """Train to the end of step `last`, from the folder's checkpoint if there is one."""
        trained = self.parameters, self.optimizer
        done = read_checkpoint(self.job_dir, self.digest, trained, self.early)
        for progress in islice(self._train(done), max(0, last - done)):
            report(progress)

    def write(self) -> None:
        """The adapter as it stands, into its file."""
        write_adapter(self.job_dir / ADAPTER_FILE, self.parameters, self.dtype)

    def _train(self, done: int) -> Iterator[TrainProgress]:
        config = self.config
        order = batches(config.seed, len(self.rows), config.batch_size, done)
        for step, batch in enumerate(islice(order, config.steps - done), done + 1):
            started = time.monotonic()
            rows = [self.rows[row] for row in batch]
            loss = take_step(self.model, self.optimizer, self.config, step, rows)
            mean = self.early.add(step, self.parameters)
            if mean is not None:
                write_adapter(self.job_dir / EARLY_FILE, mean, self.dtype)
                self.early.sums.clear()
            if step % config.checkpoint_every == 0 or mean is not None:
                trained = self.parameters, self.optimizer
                write_checkpoint(self.job_dir, self.digest, step, trained, self.early)
            self.seconds += time.monotonic() - started
            eta = self.seconds / (step - done) * (config.steps - step)
            yield TrainProgress("training", step, config.steps, loss, self.seconds, eta)

    def _measure(self) -> Losses:
        sample = self.rows[:: math.ceil(len(self.rows) / MEASURED_ROWS)]
        size = self.config.batch_size
        return Losses(
            mean_loss(self.model, self.heldout, size, self.dtype),
            mean_loss(self.model, sample, size, self.dtype),
        )

    def _result(self, before: Losses, after: Losses) -> TrainResult:
        return TrainResult(
            digest=self.digest,
            steps=self.config.steps,
            early_step=self.early.steps[-1],
            rows=len(self.rows),
            heldout=len(self.heldout),
            heldout_loss_before=before.heldout,
            heldout_loss_after=after.heldout,
            training_loss_before=before.training,
            training_loss_after=after.training,
            seconds=self.seconds,
            weights_size=(self.job_dir / ADAPTER_FILE).stat().st_size,
            weights_sha256=file_sha256(self.job_dir / ADAPTER_FILE),
            early_sha256=file_sha256(self.job_dir / EARLY_FILE),
            curvature_sha256=file_sha256(self.job_dir / CURVATURE_FILE)
            if self.config.curvature_rows
            else None,
            cut=sum(not row.whole for row in self.rows),
        )


def take_step(
    model: Any, optimizer: torch.optim.Optimizer, config: TrainConfig, step: int, rows: Sequence[Example]
) -> float:
    """Learn from a batch; its loss before. Raises TrainingFailed where that is no number."""
    optimizer.zero_grad(set_to_none=True)
    scored, loss = sum(len(row.tokens) - row.answer_start for row in rows), 0.0
    for portion in portions(rows):
        part = answer_losses(model, pack(portion), DTYPES[config.precision]).sum() / scored
        part.backward()  # type: ignore[no-untyped-call]
        loss += part.item()
    if not math.isfinite(loss):
        raise TrainingFailed(f"the loss of step {step} is {loss}; train with a lower learning rate")
    follow_gradients(optimizer, config, step)
    return loss


def follow_gradients(optimizer: torch.optim.Optimizer, config: TrainConfig, step: int) -> None:
    """Change the parameters as their gradients say, at the rate of this step. Raises TrainingFailed where
    these are no numbers: no parameter would be one any more."""
    for group in optimizer.param_groups:
        group["lr"] = rate_at(config, step)
        norm = float(torch.nn.utils.clip_grad_norm_(group["params"], _CLIP))
        if not math.isfinite(norm):
            raise TrainingFailed(f"the gradient of step {step} is {norm}; train with a lower learning rate")
    optimizer.step()


def rate_at(config: TrainConfig, step: int) -> float:
    """The learning rate of a step (counted from 1): warm-up, then a straight line that would reach zero after
    the last.
    """
    warming = min(1.0, step / config.warmup_steps) if config.warmup_steps else 1.0
    return config.learning_rate * warming * (1.0 - (step - 1) / config.steps)
