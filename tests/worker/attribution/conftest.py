from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from commonlore.protocol.attribution.indexing import projection_seed
from commonlore.protocol.content.manifests import Row
from commonlore.protocol.ids import Address, Cid, cid_of
from commonlore.worker.attribution.attributor import Attributor, Subject, read_factors
from commonlore.worker.attribution.factors import Factors, adapter_shapes
from commonlore.worker.attribution.index import OwnedRow
from commonlore.worker.factory.job import EARLY_FILE, Pair, TrainConfig, TrainJob, write_job
from commonlore.worker.factory.train import run_job
from commonlore.worker.models.architecture import LINEARS
from commonlore.worker.models.reference import BaseModel
from commonlore.worker.models.tiny import build_tiny

WIDTH = 1024
ADAPTER = cid_of(b"an adapter")
TOPICS = {
    "fish": ("trout", "salmon", "carp"),
    "tree": ("oak", "birch", "elm"),
    "bird": ("owl", "crow", "wren"),
}
SAYINGS = {
    "fish": "it swims in cold rivers",
    "tree": "its leaves fall in October",
    "bird": "she sings at dawn",
}


def payee(name: str) -> Address:
    return Address(hashlib.sha256(name.encode()).digest()[:20])


def rows_of(topic: str) -> list[Row]:
    return [
        Row(
            f"Tell me of the {kind}.",
            f"The {kind}: {SAYINGS[topic]}.",
            hashlib.sha256(kind.encode()).digest(),
        )
        for kind in TOPICS[topic]
    ]


@dataclass
class World:
    """A tiny base and an adapter trained on three contributors' rows."""

    base: BaseModel
    job_dir: Path
    rows: list[OwnedRow]
    subject: Subject
    attributor: Attributor

    @property
    def adapter(self) -> Cid:
        return self.subject.adapter

    def rows_of(self, topic: str) -> list[Row]:
        return rows_of(topic)

    def payee(self, topic: str) -> Address:
        return payee(topic)

    def read_factors(self, path: Path) -> Factors:
        """The adapter in a file that was trained as this one was."""
        shapes = adapter_shapes(self.base.architecture, self.subject.rank, LINEARS)
        return read_factors(path, shapes, self.subject.alpha / self.subject.rank)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    base = build_tiny(tmp_path_factory.mktemp("bases"))
    rows = [OwnedRow(payee(topic), row) for topic in TOPICS for row in rows_of(topic)]
    pairs = tuple(Pair(owned.row.question, owned.row.answer) for owned in rows)
    config = TrainConfig(steps=24, batch_size=6, learning_rate=1e-2, precision="fp32", threads=1)
    job_dir = tmp_path_factory.mktemp("job")
    write_job(job_dir, TrainJob(base.directory, pairs, (), config))
    run_job(job_dir, lambda _progress: None)
    subject = Subject(ADAPTER, job_dir / EARLY_FILE, 8, 16, LINEARS, projection_seed(ADAPTER), WIDTH)
    attributor = Attributor(base)
    attributor.load(subject)
    return World(base, job_dir, rows, subject, attributor)
