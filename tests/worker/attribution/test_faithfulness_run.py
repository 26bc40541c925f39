"""Faithfulness measured on a tiny adapter, for real: half of its rows trained again, several times."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from commonlore.protocol.errors import ConfigError
from commonlore.protocol.manifests import Row
from commonlore.worker.attribution.faithfulness_run import Measurement, measure_adapter
from commonlore.worker.attribution.index import build_index
from commonlore.worker.factory.job import TrainConfig

CONFIG = TrainConfig(steps=6, batch_size=3, learning_rate=1e-2, precision="fp32", threads=1)


def test_a_measurement_is_of_its_index_and_goes_on_where_it_stood(world: Any, tmp_path: Path) -> None:
    compute = world.attributor.row_vectors(world.adapter)
    built = build_index(world.subject, world.rows, tmp_path / "index", compute)
    index = built.manifest, built.rows
    indexed = [owned.row for owned in sorted(world.rows, key=lambda owned: owned.payee)]
    queries = [
        Row("Tell me of the perch.", "The perch: it swims in cold rivers.", hashlib.sha256(b"1").digest()),
        Row("Tell me of the jay.", "The jay: she sings at dawn.", hashlib.sha256(b"2").digest()),
    ]
    told: list[tuple[int, int]] = []
    plan = Measurement(CONFIG, 5, tmp_path / "work")
    args = (world.base, world.subject, index, (indexed, queries), plan, lambda *at: told.append(at))
    first = measure_adapter(*args)
    assert (first.subsets, first.queries, told[-1]) == (5, 2, (5, 5))
    assert -1.0 <= first.lds <= 1.0
    trained = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.safetensors")}
    assert len(trained) == 10  # an adapter and an early checkpoint each
    assert measure_adapter(*args) == first
    assert {path: path.stat().st_mtime_ns for path in trained} == trained, "nothing is trained twice"
    with pytest.raises(ConfigError, match="too few"):
        measure_adapter(world.base, world.subject, index, (indexed, []), plan, lambda *_: None)
