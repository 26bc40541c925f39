"""Whether a contributor's rows are text at all: an admission test before anybody trains on them.

Rules of this file:
- A few rows of each contributor are scored by the plain base as they are, and with the words of their answer
  in another order. Language is likelier in its own order; noise is as likely in any. Nobody's rows have been
  trained on, so this loss is a held-out one.
- A contributor is refused whose rows do not gain from their own order, where those of others show that the
  base can tell: most contributors' gains are above zero by three standard errors. A base that knows nothing
  refuses nobody, and so does a pool of one.
- The other order is a function of the row, no library's chance. No torch here: `admit` measures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import mean, median, stdev

from ...protocol.errors import ConfigError, TrainingFailed
from .job import Pair, write_whole

ADMISSION_FILE = "admission.json"
GAINS_FILE = "gains.json"
ROWS_EACH = 8
FEWEST_WORDS = 4
"""Shorter answers have no order to speak of."""
SURE = 3.0
"""Standard errors."""


@dataclass(frozen=True, slots=True)
class AdmissionJob:
    """What is measured: for each contributor pairs of rows, as they are and in another order."""

    base: Path
    samples: tuple[tuple[tuple[Pair, Pair], ...], ...]


def plan_admission(base: Path, rows: Sequence[Sequence[Pair]]) -> AdmissionJob:
    """Up to ROWS_EACH rows of each contributor, spread evenly, beside themselves in another order."""
    return AdmissionJob(
        base, tuple(tuple((pair, in_other_order(pair)) for pair in _spread(own)) for own in rows)
    )


def in_other_order(pair: Pair) -> Pair:
    """The row with the words of its answer sorted by a hash."""
    words = list(enumerate(pair.answer.split()))
    words.sort(key=lambda each: hashlib.sha256(f"{each[0]}/{each[1]}/{pair.answer}".encode()).digest())
    return Pair(pair.question, " ".join(word for _, word in words))


def refused(gains: Sequence[Sequence[float]]) -> list[int]:
    """The contributors (by number) whose rows are noise. `gains` are nats a token by which each measured row
    is likelier than in another order; who has fewer than two measured rows is not judged.
    """
    judged = {number: own for number, own in enumerate(gains) if len(own) >= 2}
    if len(judged) < 2:
        return []
    surely = [mean(own) > SURE * _error(own) for own in judged.values()]
    middle = median(mean(own) for own in judged.values())
    if sum(surely) * 2 < len(surely) or middle <= 0:
        return []
    return [
        number for number, own in judged.items() if mean(own) < middle / 4 and mean(own) <= SURE * _error(own)
    ]


def write_admission(job_dir: Path, job: AdmissionJob) -> None:
    """Make `job_dir` the folder of this test."""
    job_dir.mkdir(parents=True, exist_ok=True)
    described = {"base": str(job.base.resolve()), "samples": job.samples}
    write_whole(job_dir / ADMISSION_FILE, json.dumps(described, ensure_ascii=False).encode())


def read_admission(job_dir: Path) -> AdmissionJob:
    """The test of a folder. Raises ConfigError."""
    try:
        raw = json.loads((job_dir / ADMISSION_FILE).read_bytes())
        samples = tuple(tuple((Pair(*one), Pair(*other)) for one, other in own) for own in raw["samples"])
        return AdmissionJob(Path(raw["base"]), samples)
    except (OSError, ValueError, TypeError, KeyError) as wrong:
        raise ConfigError(f"{job_dir} holds no admission test: {wrong}; order it again") from None


def write_gains(job_dir: Path, gains: Sequence[Sequence[float]]) -> None:
    """What was measured."""
    write_whole(job_dir / GAINS_FILE, json.dumps(gains).encode())


def read_gains(job_dir: Path) -> list[list[float]]:
    """What was measured. Raises TrainingFailed."""
    try:
        gains: list[list[float]] = json.loads((job_dir / GAINS_FILE).read_bytes())
    except (OSError, ValueError) as wrong:
        raise TrainingFailed(f"the admission test in {job_dir} came to no result: {wrong}") from None
    return gains


def _spread(rows: Sequence[Pair]) -> list[Pair]:
    worth = [pair for pair in rows if len(pair.answer.split()) >= FEWEST_WORDS]
    step = max(1, len(worth) // ROWS_EACH)
    return worth[::step][:ROWS_EACH]


def _error(gains: Sequence[float]) -> float:
    return stdev(gains) / sqrt(len(gains))
