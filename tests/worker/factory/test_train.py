from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from commonlore.protocol.errors import InvalidModel, TrainingFailed
from commonlore.worker.factory.job import (
    ADAPTER_FILE,
    CHECKPOINT_FILE,
    EARLY_FILE,
    TrainConfig,
    TrainJob,
    TrainProgress,
    read_result,
    write_job,
)
from commonlore.worker.factory.train import follow_gradients, run_job, train_early


class Killed(BaseException):
    """Stands for a SIGKILL in the middle of a run."""


def run(job_dir: Path, kill_at: int | None = None) -> list[TrainProgress]:
    seen: list[TrainProgress] = []

    def report(progress: TrainProgress) -> None:
        seen.append(progress)
        if progress.stage == "training" and progress.step == kill_at:
            raise Killed

    run_job(job_dir, report)
    return seen


def test_training_lowers_the_loss_and_says_so(job: TrainJob, job_dir: Path) -> None:
    write_job(job_dir, job)
    seen = run(job_dir)
    result = read_result(job_dir)
    assert result is not None
    assert result.improved
    assert result.training_loss_after < result.training_loss_before - 1.0
    assert [p.step for p in seen if p.stage == "training"] == list(range(1, 13))
    assert seen[-1].stage == "done"
    assert not (job_dir / CHECKPOINT_FILE).exists()


@pytest.mark.parametrize(("kill_at", "goes_on_at"), [(7, 7), (2, 3)])  # 2: amid the early mean
def test_a_killed_run_resumed_equals_an_uninterrupted_one(
    job: TrainJob, tmp_path: Path, kill_at: int, goes_on_at: int
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    write_job(whole, job)
    write_job(killed, job)
    run(whole)
    with pytest.raises(Killed):
        run(killed, kill_at=kill_at)
    steps = [p.step for p in run(killed) if p.stage == "training"]
    assert steps == list(range(goes_on_at, 13))  # every second step has a checkpoint
    for name in (ADAPTER_FILE, EARLY_FILE):
        assert (whole / name).read_bytes() == (killed / name).read_bytes()


def test_the_early_checkpoint_is_found_again_without_the_rest_of_the_run(
    job: TrainJob, tmp_path: Path
) -> None:
    whole, early = tmp_path / "whole", tmp_path / "early"
    write_job(whole, job)
    write_job(early, dataclasses.replace(job, heldout=()))
    run(whole)
    assert train_early(early).read_bytes() == (whole / EARLY_FILE).read_bytes()
    assert not (early / ADAPTER_FILE).exists()
    assert train_early(early).read_bytes() == (whole / EARLY_FILE).read_bytes(), "again, from its checkpoint"


def test_a_finished_job_is_not_trained_again_unless_its_files_are_damaged(
    job: TrainJob, job_dir: Path
) -> None:
    write_job(job_dir, job)
    run(job_dir)
    adapter = (job_dir / ADAPTER_FILE).read_bytes()
    assert [progress.stage for progress in run(job_dir)] == ["done"]
    (job_dir / ADAPTER_FILE).write_bytes(adapter[:-1])
    run(job_dir)
    assert (job_dir / ADAPTER_FILE).read_bytes() == adapter


def test_a_base_that_is_none_is_named(job: TrainJob, job_dir: Path, tmp_path: Path) -> None:
    write_job(job_dir, dataclasses.replace(job, base=tmp_path))
    with pytest.raises(InvalidModel, match="not an imported base"):
        run(job_dir)


def test_without_held_out_rows_no_figure_is_invented(job: TrainJob, job_dir: Path) -> None:
    config = dataclasses.replace(job.config, steps=2)
    write_job(job_dir, dataclasses.replace(job, rows=job.rows[:1], heldout=(), config=config))
    run(job_dir)
    result = read_result(job_dir)
    assert result is not None
    assert (result.heldout, result.heldout_loss_before, result.heldout_loss_after) == (0, None, None)
    assert result.training_loss_before is not None


def test_a_gradient_that_is_no_number_ends_a_run() -> None:
    """Clipped, it would make no number of every parameter, and an adapter of that after the last step."""
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter], lr=0.0)
    parameter.grad = torch.tensor([1.0, torch.inf, 0.0])
    with pytest.raises(TrainingFailed, match="gradient of step 2 is inf; train with a lower learning rate"):
        follow_gradients(optimizer, TrainConfig(), 2)
    assert torch.equal(parameter.detach(), torch.ones(3))
