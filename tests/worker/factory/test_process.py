"""The trainer as a real process: killed for real, resumed, and honest about what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import ConfigError, TrainingFailed
from commonlore.worker.adapters.fake import write_fake_adapter
from commonlore.worker.factory.job import ADAPTER_FILE, CHECKPOINT_FILE, EARLY_FILE, TrainJob, write_job
from commonlore.worker.factory.merge_job import MergeJob, MergePart, make_plan, read_merged, write_merge
from commonlore.worker.factory.process import merge, result_of, train
from commonlore.worker.factory.train import run_job
from commonlore.worker.models.reference import BaseModel


async def train_until(job_dir: Path, step: int | None = None) -> None:
    """Train until `step` is reported, then leave the block, which kills the trainer."""
    async with train(job_dir) as updates:
        async for progress in updates:
            if progress.stage == "training" and progress.step == step:
                return


def test_a_killed_trainer_resumed_gives_the_uninterrupted_adapter(job: TrainJob, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    write_job(whole, job)
    write_job(killed, job)
    run_job(whole, lambda _progress: None)

    async def main() -> None:
        with trio.fail_after(240):
            await train_until(killed, step=5)

    trio.run(main)
    with pytest.raises(TrainingFailed, match="has not finished"):
        result_of(killed)
    assert (killed / CHECKPOINT_FILE).exists()
    run_job(killed, lambda _progress: None)
    assert result_of(killed).improved
    for name in (ADAPTER_FILE, EARLY_FILE):
        assert (whole / name).read_bytes() == (killed / name).read_bytes()


def test_a_merge_runs_in_a_process_of_its_own(tiny: BaseModel, tmp_path: Path) -> None:
    parts = []
    for seed in range(2):
        source = write_fake_adapter(tmp_path / f"{seed}.safetensors", tiny.architecture, seed=seed)
        path = Path(source.path)
        parts.append(MergePart(source.adapter, path, PPM // 2, source.rank, source.alpha, source.targets))
    job = tmp_path / "job"
    write_merge(job, MergeJob("ann/both", tiny.directory, tuple(parts), make_plan("cat"), threads=1))

    async def steps() -> list[int]:
        with trio.fail_after(240):
            async with merge(job) as updates:
                return [progress.step async for progress in updates if progress.stage == "merging"]

    assert trio.run(steps) == list(range(1, 7 * tiny.architecture.layers + 1))
    assert (read_merged(job).rank, (job / ADAPTER_FILE).stat().st_size) == (16, read_merged(job).weights_size)


def test_what_is_wrong_with_a_job_arrives_typed(tmp_path: Path) -> None:
    async def main() -> None:
        with trio.fail_after(240), pytest.raises(ConfigError, match="no training job"):
            await train_until(tmp_path)

    trio.run(main)
