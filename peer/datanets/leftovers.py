"""What training and indexing left of rows on this machine, and its deletion."""

from __future__ import annotations

import shutil
from collections.abc import Sequence, Set
from pathlib import Path

from ...protocol.content.manifests import Row
from ...protocol.errors import ConfigError
from ...worker.factory.admission import ADMISSION_FILE, read_admission
from ...worker.factory.job import JOB_FILE, Pair, read_job


def forget_jobs(jobs: Path, rows: Sequence[Row]) -> None:
    """Delete what training left that holds any of these rows, wherever it is (measurements, audits and tests
    of admission keep theirs in folders of their own), and what indexing wrote down."""
    gone = {(row.question, row.answer) for row in rows}
    for described in sorted((*jobs.rglob(JOB_FILE), *jobs.rglob(ADMISSION_FILE))):
        if _may_hold(described, gone):
            shutil.rmtree(described.parent, ignore_errors=True)
    for pattern in ("*.rows", "*.measured*"):
        for path in jobs.glob(f"attribution/{pattern}"):
            path.unlink(missing_ok=True)


def _may_hold(described: Path, gone: Set[tuple[str, str]]) -> bool:
    """Whether a folder holds one of these rows. What cannot be read, as where another version of this program
    wrote it, may hold them."""
    try:
        return not gone.isdisjoint(map(tuple, _rows_of(described)))
    except ConfigError:
        return True


def _rows_of(described: Path) -> list[Pair]:
    """The rows in a job's or an admission test's folder. Raises ConfigError."""
    if described.name == ADMISSION_FILE:
        return list(read_admission(described.parent).rows())
    job = read_job(described.parent)
    return [*job.rows, *job.heldout]
