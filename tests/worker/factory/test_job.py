from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from commonlore.protocol.errors import ConfigError
from commonlore.protocol.ids import cid_of
from commonlore.worker.factory.job import TrainConfig, TrainJob, job_digest, read_job, read_result, write_job

BASE = cid_of(b"a base")


def test_a_job_is_read_as_it_was_written(job: TrainJob, job_dir: Path) -> None:
    write_job(job_dir, job)
    assert read_job(job_dir) == dataclasses.replace(job, base=job.base.resolve())
    assert read_result(job_dir) is None


def test_the_digest_names_what_the_outcome_depends_on(job: TrainJob) -> None:
    def digest(**changes: object) -> str:
        return job_digest(dataclasses.replace(job, config=dataclasses.replace(job.config, **changes)), BASE)

    assert digest() == digest(threads=7, checkpoint_every=3)
    assert len({digest(), digest(seed=2), digest(steps=13), digest(rank=4)}) == 4
    assert job_digest(job, BASE) != job_digest(job, cid_of(b"another base"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"precision": "int4"}, "precision 'int4'"),
        ({"learning_rate": 2.0}, "learning_rate 2.0"),
        ({"batch_size": "8"}, "batch_size"),
    ],
)
def test_values_that_no_run_can_use_are_named(
    job: TrainJob, job_dir: Path, changes: dict[str, object], said: str
) -> None:
    broken = dataclasses.replace(job, config=dataclasses.replace(TrainConfig(), **changes))
    with pytest.raises(ConfigError, match=said):
        write_job(job_dir, broken)


def test_a_job_without_rows_and_a_broken_file_are_refused(job: TrainJob, job_dir: Path) -> None:
    with pytest.raises(ConfigError, match="no rows"):
        write_job(job_dir, dataclasses.replace(job, rows=()))
    write_job(job_dir, job)
    (job_dir / "job.json").write_text("{}")
    with pytest.raises(ConfigError, match="does not describe"):
        read_job(job_dir)
