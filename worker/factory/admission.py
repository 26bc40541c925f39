"""Whether a contributor's rows are text at all: an admission test before anybody trains on them.

Rules of this file:
- A few rows of each contributor are scored by the plain base as they are, and with the words of their answer
  in another order. Language is likelier in its own order; noise is as likely in any. Nobody's rows have been
  trained on, so this loss is a held-out one.
- The base may not know the language: codes, forms, another tongue. Whose rows do not gain surely from their
  own order is asked again after an adapter has learnt from other rows of the same contributor. What can be
  learnt has an order then, too, and noise still has none.
- Whose other rows are too few learns from everybody's (`lessons`). All such contributors make two halves, and
  each is measured after learning without its measured rows: noise is not hidden by dividing it among many
  names, and it costs four learnings at most, however many they are.
- Who does not gain even then is refused, unless nobody does: a base that cannot tell refuses nobody, and so
  does a pool of one.
- The other order is a function of the row, no library's chance. No torch here: `admit` measures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any, TypeVar

from ...protocol.errors import ConfigError, TrainingFailed
from .job import Pair, write_whole

ADMISSION_FILE = "admission.json"
GAINS_FILE = "gains.json"
ROWS_EACH, FEWEST_MEASURED = 8, 4
"""Rows of a contributor that are measured: half of them, but at most and at least so many."""
FEWEST_WORDS = 4
"""Shorter answers have no order to speak of."""
LONGEST = 4_000
"""Characters of a row; longer ones are neither measured nor learnt from, or one could fill the memory."""
LEARNT_ROWS, FEWEST_LEARNT = 24, 8
"""Rows of a contributor from which an adapter learns, at most and at least."""
SURE = 3.0
"""Standard errors."""
LEAST_GAIN, PLAIN_GAIN = 0.15, 0.45
"""Nats a token: below the one there is nothing; the other is enough whatever the spread, and what it takes
where too few rows tell their spread. Measured: noise 0.1 at most, a single row of it 0.2 by standard
deviation; language 0.35 at least, once learnt, and 1.3 to a base that knows it."""

Each = TypeVar("Each")


@dataclass(frozen=True, slots=True)
class Sample:
    """Of one contributor: rows as they are and in another order, and other rows to learn from. `half` is the
    lesson of a contributor that has too few of these."""

    measured: tuple[tuple[Pair, Pair], ...]
    learnt: tuple[Pair, ...]
    half: int | None = None


@dataclass(frozen=True, slots=True)
class AdmissionJob:
    """What is measured of each contributor, and what may be learnt from."""

    base: Path
    samples: tuple[Sample, ...]

    def rows(self) -> Iterator[Pair]:
        """Every row that stands in it."""
        for sample in self.samples:
            yield from (own for own, _ in sample.measured)
            yield from sample.learnt


@dataclass(frozen=True, slots=True)
class Gains:
    """Nats a token by which each measured row is likelier in its own order, to the plain base and after
    learning; None where that was not asked."""

    plain: tuple[float, ...]
    learnt: tuple[float, ...] | None = None

    @property
    def is_language(self) -> bool:
        """Whether the rows surely gain from their order, in one way or the other."""
        return is_sure(self.plain) or (self.learnt is not None and is_sure(self.learnt))


def plan_admission(base: Path, rows: Sequence[Sequence[Pair]]) -> AdmissionJob:
    """Some rows of each contributor, spread evenly, beside themselves in another order; and others to learn
    from."""
    rows = [[row for row in own if len(row.question) + len(row.answer) <= LONGEST] for own in rows]
    chosen = [_choose(own) for own in rows]
    rest = [_without(own, taken) for own, taken in zip(rows, chosen, strict=True)]
    small = [number for number, own in enumerate(rest) if len(own) < FEWEST_LEARNT]
    samples = tuple(
        Sample(
            tuple((own[i], in_other_order(own[i])) for i in chosen[number]),
            tuple(_spread(rest[number], LEARNT_ROWS)),
            small.index(number) % 2 if number in small else None,
        )
        for number, own in enumerate(rows)
    )
    return AdmissionJob(base, samples)


def is_sure(gains: Sequence[float]) -> bool:
    """Whether rows are likelier in their own order beyond chance."""
    if not gains:
        return False
    needed = PLAIN_GAIN
    if len(gains) >= FEWEST_MEASURED:
        needed = max(LEAST_GAIN, min(PLAIN_GAIN, SURE * stdev(gains) / sqrt(len(gains))))
    return mean(gains) >= needed


def in_other_order(pair: Pair) -> Pair:
    """The row with the words of its answer sorted by a hash."""
    words = list(enumerate(pair.answer.split()))
    words.sort(key=lambda each: hashlib.sha256(f"{each[0]}/{each[1]}/{pair.answer}".encode()).digest())
    return Pair(pair.question, " ".join(word for _, word in words))


def refused(gains: Sequence[Gains]) -> list[int]:
    """The contributors (by number) whose rows are noise. Who has no measured row is not judged."""
    judged = {number: own for number, own in enumerate(gains) if own.plain}
    noise = [number for number, own in judged.items() if not own.is_language]
    return noise if len(noise) < len(judged) else []


def write_admission(job_dir: Path, job: AdmissionJob) -> None:
    """Make `job_dir` the folder of this test."""
    job_dir.mkdir(parents=True, exist_ok=True)
    described = asdict(job) | {"base": str(job.base.resolve())}
    write_whole(job_dir / ADMISSION_FILE, json.dumps(described, ensure_ascii=False).encode())


def read_admission(job_dir: Path) -> AdmissionJob:
    """The test of a folder. Raises ConfigError."""
    try:
        raw = json.loads((job_dir / ADMISSION_FILE).read_bytes())
        samples = tuple(_read_sample(each) for each in raw["samples"])
        return AdmissionJob(Path(raw["base"]), samples)
    except (OSError, ValueError, TypeError, KeyError) as wrong:
        raise ConfigError(f"{job_dir} holds no admission test: {wrong}; order it again") from None


def write_gains(job_dir: Path, gains: Sequence[Gains]) -> None:
    """What was measured."""
    write_whole(job_dir / GAINS_FILE, json.dumps([asdict(own) for own in gains]).encode())


def read_gains(job_dir: Path) -> list[Gains]:
    """What was measured. Raises TrainingFailed."""
    try:
        raw = json.loads((job_dir / GAINS_FILE).read_bytes())
        return [
            Gains(tuple(own["plain"]), None if own["learnt"] is None else tuple(own["learnt"])) for own in raw
        ]
    except (OSError, ValueError, TypeError, KeyError) as wrong:
        raise TrainingFailed(f"the admission test in {job_dir} came to no result: {wrong}") from None


def _read_sample(raw: Mapping[str, Any]) -> Sample:
    measured = tuple((Pair(*one), Pair(*other)) for one, other in raw["measured"])
    return Sample(measured, tuple(Pair(*row) for row in raw["learnt"]), raw["half"])


def _choose(rows: Sequence[Pair]) -> list[int]:
    """The rows (by number) that are measured."""
    worth = [number for number, pair in enumerate(rows) if len(pair.answer.split()) >= FEWEST_WORDS]
    return _spread(worth, min(ROWS_EACH, max(FEWEST_MEASURED, len(worth) // 2)))


def _spread(some: Sequence[Each], count: int) -> list[Each]:
    return list(some[:: max(1, len(some) // count)][:count])


def _without(rows: Sequence[Pair], taken: Sequence[int]) -> list[Pair]:
    return [pair for number, pair in enumerate(rows) if number not in taken]
