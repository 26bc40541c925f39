"""A training job is a folder: what to train stands in job.json, what came of it beside it.

Rules of this file:
- No torch: whoever orders a run reads and writes these files without loading a tensor library.
- Every file appears whole or not at all. Training is a function of the job and the base, so a folder that was
  killed at any moment is simply run again; what belongs to another job (`job_digest`) is left unread and
  overwritten.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from ...protocol.errors import ConfigError
from ...protocol.ids import Cid

JOB_FILE = "job.json"
RESULT_FILE = "result.json"
ADAPTER_FILE = "adapter_model.safetensors"
EARLY_FILE = "early.safetensors"
CURVATURE_FILE = "curvature.safetensors"
CHECKPOINT_FILE = "checkpoint.safetensors"
LONGEST = 512
"""Tokens of a row's example; what is longer is cut (`examples`)."""
PRECISIONS = ("fp32", "bf16")
EARLY_STEPS = 3
"""Steps whose adapters' mean is the early checkpoint (docs/attribution.md has what others would give)."""
_OUTCOME = 2
"""Counts what the same job has come to mean: since 2 the early checkpoint is a mean."""


class Pair(NamedTuple):
    """One example: what is asked, and the answer that training scores."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How to train.

    Rates are per step at their peak; the schedule warms up over `warmup_steps` and falls linearly to zero.

    `threads` 0 leaves the number to torch. `curvature_rows` of the rows tell the curvature that attribution
    whitens with; 0 leaves it out.
    """

    steps: int = 40
    batch_size: int = 8
    rank: int = 8
    alpha: int = 16
    learning_rate: float = 8e-3
    warmup_steps: int = 3
    seed: int = 1
    precision: str = "bf16"
    threads: int = 0
    checkpoint_every: int = 10
    curvature_rows: int = 64

    def early_steps(self, rows: int) -> range:
        """Steps after which the adapter counts into the early checkpoint, their mean: the last EARLY_STEPS of
        the first epoch, a third of the run at most.
        """
        last = max(1, min(self.steps // 3, -(-rows // self.batch_size)))
        return range(max(1, last - EARLY_STEPS + 1), last + 1)


@dataclass(frozen=True, slots=True)
class TrainJob:
    """What to train: a base's directory, examples, and held-out examples that only measure."""

    base: Path
    rows: tuple[Pair, ...]
    heldout: tuple[Pair, ...]
    config: TrainConfig


@dataclass(frozen=True, slots=True)
class TrainProgress:
    """One line of a run's progress.

    `stage` is loading, measuring, training or done; steps count within the stage.

    `loss` is in nats a token of answer, of the last batch; `eta` the seconds that training still needs.
    """

    stage: str
    step: int
    steps: int
    loss: float | None = None
    seconds: float = 0.0
    eta: float | None = None


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What came of a run.

    Losses are nats a token of answer, None where no row was there to measure; `seconds` is this machine's
    time in training steps.
    """

    digest: str
    steps: int
    early_step: int
    rows: int
    heldout: int
    heldout_loss_before: float | None
    heldout_loss_after: float | None
    training_loss_before: float | None
    training_loss_after: float | None
    seconds: float
    weights_size: int
    weights_sha256: str
    early_sha256: str
    curvature_sha256: str | None = None
    cut: int = 0
    """Rows too long to be learnt whole (`examples`)."""

    @property
    def improved(self) -> bool:
        """The verdict: the adapter answers held-out questions better than the plain base, as was measured."""
        before, after = self.heldout_loss_before, self.heldout_loss_after
        return before is not None and after is not None and after < before


def write_job(job_dir: Path, job: TrainJob) -> None:
    """Make `job_dir` the folder of this job. Raises ConfigError on values that no run can use."""
    _check(job)
    job_dir.mkdir(parents=True, exist_ok=True)
    described = {
        "base": str(job.base.resolve()),
        "config": asdict(job.config),
        "rows": [list(pair) for pair in job.rows],
        "heldout": [list(pair) for pair in job.heldout],
    }
    write_whole(job_dir / JOB_FILE, json.dumps(described, ensure_ascii=False, indent=1).encode())


def read_job(job_dir: Path) -> TrainJob:
    """The job of a folder. Raises ConfigError."""
    path = job_dir / JOB_FILE
    try:
        raw = json.loads(path.read_bytes())
        job = TrainJob(
            Path(raw["base"]),
            tuple(Pair(str(question), str(answer)) for question, answer in raw["rows"]),
            tuple(Pair(str(question), str(answer)) for question, answer in raw["heldout"]),
            TrainConfig(**raw["config"]),
        )
    except OSError as wrong:
        raise ConfigError(f"no training job in {job_dir}: {wrong.strerror}; write one first") from None
    except (ValueError, TypeError, KeyError) as wrong:
        raise ConfigError(f"{path} does not describe a training job: {wrong}; write it again") from None
    _check(job)
    return job


def job_digest(job: TrainJob, base: Cid) -> str:
    """Names everything that a run's outcome depends on (hexadecimal sha2-256)."""
    config = asdict(job.config)
    for name in ("threads", "checkpoint_every"):
        del config[name]
    content = [_OUTCOME, base, config, job.rows, job.heldout]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_result(job_dir: Path) -> TrainResult | None:
    """What came of the folder's run; None while it has not ended."""
    try:
        raw = json.loads((job_dir / RESULT_FILE).read_bytes())
        return TrainResult(**raw)
    except (OSError, ValueError, TypeError):
        return None


def write_result(job_dir: Path, result: TrainResult) -> None:
    """The last file of a run: with it the run has ended."""
    write_whole(job_dir / RESULT_FILE, json.dumps(asdict(result), indent=1).encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there complete, on disk, or not at all."""
    with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(file.name, path)


def _check(job: TrainJob) -> None:
    config = job.config
    _refuse_other_types(asdict(config))
    for name, low in _LOWEST.items():
        if getattr(config, name) < low:
            raise ConfigError(f"training: {name} is {getattr(config, name)}; it must be at least {low}")
    if config.precision not in PRECISIONS:
        raise ConfigError(f"training: precision {config.precision!r}; choose one of {', '.join(PRECISIONS)}")
    if not 0 < config.learning_rate < 1:
        raise ConfigError(f"training: learning_rate {config.learning_rate}; it must lie between 0 and 1")
    if not job.rows:
        raise ConfigError("training: there are no rows to learn from; add a shard first")


_LOWEST: Mapping[str, int] = {
    "steps": 1,
    "batch_size": 1,
    "rank": 1,
    "alpha": 1,
    "warmup_steps": 0,
    "seed": 0,
    "threads": 0,
    "checkpoint_every": 1,
    "curvature_rows": 0,
}


def _refuse_other_types(config: Mapping[str, Any]) -> None:
    for field in fields(TrainConfig):
        wanted = type(field.default)
        if not isinstance(config[field.name], wanted if wanted is not float else (int, float)):
            raise ConfigError(
                f"training: {field.name} is {config[field.name]!r}; it must be a {wanted.__name__}"
            )
