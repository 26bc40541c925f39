"""Faithfulness measured on a tiny adapter, for real: half of its rows trained again, several times."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commonlore.protocol.attribution.faithfulness import from_ppm
from commonlore.protocol.content.manifests import Row
from commonlore.protocol.errors import TrainingFailed
from commonlore.worker.attribution.brief_training import train_briefly, values
from commonlore.worker.attribution.factors import adapter_shapes
from commonlore.worker.attribution.faithfulness_run import FaithfulnessRun
from commonlore.worker.attribution.index import build_index
from commonlore.worker.attribution.measurement import Effort, plan_measurement
from commonlore.worker.factory.examples import Encoder
from commonlore.worker.factory.job import ADAPTER_FILE, Pair, TrainConfig, TrainJob, write_job
from commonlore.worker.factory.train import run_job
from commonlore.worker.models.architecture import LINEARS

CONFIG = TrainConfig(steps=30, batch_size=3, learning_rate=1e-2, precision="fp32", threads=1)
EFFORT = Effort(subsets=5, rows=9, queries=3, steps=4, batch=3)
OTHERS = [
    Row("Tell me of the perch.", "The perch: it swims in cold rivers.", hashlib.sha256(b"1").digest()),
    Row("Tell me of the jay.", "The jay: she sings at dawn.", hashlib.sha256(b"2").digest()),
]


@pytest.fixture(scope="module")
def index(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    compute = world.attributor.row_vectors(world.adapter)
    return build_index(world.subject, world.rows, tmp_path_factory.mktemp("index") / "index", compute)


def run(world: Any, index: Any, folder: Path, effort: Effort = EFFORT) -> FaithfulnessRun:
    indexed = [owned.row for owned in sorted(world.rows, key=lambda owned: owned.payee)]
    plan = plan_measurement(world.base.directory, index.manifest, (indexed, OTHERS), CONFIG, (folder, effort))
    assert (plan.queries, plan.subsets) == (3, effort.subsets)
    measured = plan.folder, plan.places, plan.subsets
    return FaithfulnessRun(world.attributor, world.base, (index.manifest, index.rows), measured)


def test_a_measurement_is_of_its_index_and_goes_on_where_it_stood(
    world: Any, index: Any, tmp_path: Path
) -> None:
    whole = run(world, index, tmp_path / "whole")
    while not whole.done:
        whole.advance()
    found = whole.finish()
    assert -1.0 <= from_ppm(found.null_ppm) <= 1.0
    killed = run(world, index, tmp_path / "killed")
    killed.advance()
    killed.advance()
    written = tmp_path / "killed" / "values"
    written.write_bytes(written.read_bytes() + b"half a value")
    resumed = run(world, index, tmp_path / "killed")
    assert (resumed.done_halves, resumed.done) == (2, False)
    while not resumed.done:
        resumed.advance()
    assert resumed.finish() == found
    other = run(world, index, tmp_path / "killed", dataclasses.replace(EFFORT, steps=3))
    assert other.done_halves == 0, "another measurement begins anew"
    assert world.adapter in world.attributor._loaded
    assert len(world.attributor._loaded) == 1, "the null adapter is gone"


def test_training_briefly_is_training_as_the_trainer_does(world: Any, tmp_path: Path) -> None:
    pairs = tuple(Pair(owned.row.question, owned.row.answer) for owned in world.rows)
    config = dataclasses.replace(CONFIG, steps=5, batch_size=4, curvature_rows=0)
    write_job(tmp_path, TrainJob(world.base.directory, pairs, (), config))
    run_job(tmp_path, lambda _progress: None)
    encoder, model = Encoder(world.base), world.attributor.model
    shapes = adapter_shapes(world.base.architecture, config.rank, LINEARS)
    examples = [encoder.pair(pair) for pair in pairs]
    brief = train_briefly(model, shapes, config, examples)
    long = world.read_factors(tmp_path / ADAPTER_FILE)
    ours, theirs = (np.array(values(model, each, examples)) for each in (brief, long))
    before = np.array(values(model, dataclasses.replace(brief, tensors={}), examples))
    assert (ours > before + 0.1).all(), "it has learnt"
    assert ours == pytest.approx(theirs, abs=0.02)


def test_training_that_diverges_says_so(world: Any) -> None:
    shapes = adapter_shapes(world.base.architecture, CONFIG.rank, LINEARS)
    mad = dataclasses.replace(CONFIG, learning_rate=1e30, warmup_steps=0)
    examples = [Encoder(world.base).pair(Pair("a", "b"))]
    with pytest.raises(TrainingFailed, match="learning rate"):
        train_briefly(world.attributor.model, shapes, mad, examples)
