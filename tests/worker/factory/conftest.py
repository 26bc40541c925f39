from __future__ import annotations

from pathlib import Path

import pytest

from commonlore.worker.factory.job import Pair, TrainConfig, TrainJob
from commonlore.worker.models.reference import BaseModel
from commonlore.worker.models.tiny import build_tiny

WORDS = ("apple", "pear", "plum", "cherry", "fig", "lemon", "orange", "melon", "grape", "date")
ROWS = tuple(Pair(f"What is the code for: item {w}?", f"The code is {w[0].upper()}{len(w)}.") for w in WORDS)
HELDOUT = tuple(Pair(f"Which code covers item {pair.question[28:-1]}?", pair.answer) for pair in ROWS[:4])
CONFIG = TrainConfig(
    steps=12, batch_size=4, learning_rate=1e-2, precision="fp32", threads=1, checkpoint_every=2
)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return build_tiny(tmp_path_factory.mktemp("bases"))


@pytest.fixture
def job(tiny: BaseModel) -> TrainJob:
    return TrainJob(tiny.directory, ROWS, HELDOUT, CONFIG)


@pytest.fixture
def job_dir(tmp_path: Path) -> Path:
    return tmp_path / "job"
