"""What `train` measures of its own adapters, on the real base and the demo's Datanets: how well scores
foretell short retrainings, beside a null adapter; some times, each with other halves and queries.

Rules of this file: factory, index and measurement are the code that nodes run; training, index and every half
are kept in the world's folder and taken up again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from commonlore.peer.datanets.corpora import Corpus, corpus
from commonlore.peer.datanets.corpus_orders import measured
from commonlore.peer.demo.plan import MEASURED
from commonlore.peer.demo.training import CURVATURE_EVERY
from commonlore.protocol.attribution.faithfulness import Correlations, from_ppm
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.ids import Address, cid_of
from commonlore.worker.attribution.attributor import Attributor
from commonlore.worker.attribution.faithfulness_run import FaithfulnessRun
from commonlore.worker.attribution.index import BuiltIndex, OwnedRow, build_index
from commonlore.worker.attribution.measurement import Effort, plan_measurement
from commonlore.worker.attribution.subject import Subject
from commonlore.worker.factory.job import CURVATURE_FILE, EARLY_FILE, Pair, TrainConfig, TrainJob, write_job
from commonlore.worker.factory.train import run_job
from commonlore.worker.models.architecture import LINEARS
from commonlore.worker.models.importing import import_base
from commonlore.worker.models.reference import BaseModel

from ..child import note
from .methods import timed

NAMES = ("icd10", "cwe")
INTERVAL = 1.96
"""Standard errors to each side of a 95 % interval."""
Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Indexed:
    """An adapter as its trainer has it: made known to an attributor, with its index."""

    base: BaseModel
    attributor: Attributor
    job: TrainJob
    built: BuiltIndex
    rows: tuple[OwnedRow, ...]


def measure_measurement(keep: Path, base: str, named: tuple[str, int], steps: int) -> Message:
    """Train on a Datanet as the demo does, index its rows, and measure; `named` is (Datanet, number)."""
    name, number = named
    folder = keep / f"measured-{base}-{name}"
    indexed = _index(folder, base, corpus(name), steps)
    return {
        "datanet": name,
        "rows": len(indexed.rows),
        "steps": steps,
        **_measure(folder, indexed, number),
    }


def _index(folder: Path, base_name: str, source: Corpus, steps: int) -> _Indexed:
    base = import_base(base_name)
    owned = tuple(
        OwnedRow(Address(hashlib.sha256(name.encode()).digest()[:20]), row)
        for name, rows in source.contributors.items()
        for row in rows
    )
    pairs = tuple(Pair(each.row.question, each.row.answer) for each in owned)
    held = tuple(Pair(each.question, each.answer) for each in measured(source, MEASURED))
    config = TrainConfig(steps=steps, curvature_rows=max(1, len(pairs) // CURVATURE_EVERY), threads=1)
    job = TrainJob(base.directory, pairs, held, config)
    write_job(folder, job)
    result = run_job(folder, lambda _: None)
    note(f"{source.name}: held-out loss {result.heldout_loss_before} -> {result.heldout_loss_after}")
    torch.set_num_threads(1)
    subject = Subject(
        cid_of(f"{base_name}/{source.name}".encode()),
        folder / EARLY_FILE,
        config.rank,
        config.alpha,
        LINEARS,
        hashlib.sha256(result.weights_sha256.encode()).digest(),
        curvature=folder / CURVATURE_FILE,
    )
    attributor = Attributor(base)
    attributor.load(subject)
    built = build_index(subject, owned, folder / "index", attributor.row_vectors(subject.adapter))
    return _Indexed(base, attributor, job, built, tuple(sorted(owned, key=lambda each: each.payee)))


def _measure(folder: Path, indexed: _Indexed, number: int) -> Message:
    """As `train` measures; a number above 0 stands for another index, whose root draws otherwise. What was
    taken up again is not timed."""
    manifest = indexed.built.manifest
    if number:
        manifest = replace(manifest, rows_root=hashlib.sha256(manifest.rows_root + bytes([number])).digest())
    kept = folder / f"measurement-{number}", Effort()
    rows = [each.row for each in indexed.rows]
    plan = plan_measurement(indexed.base.directory, manifest, (rows, []), indexed.job.config, kept)
    measured_by = plan.folder, plan.places, plan.subsets
    run = FaithfulnessRun(indexed.attributor, indexed.base, (manifest, indexed.built.rows), measured_by)
    whole = not run.done_halves
    found, spent = timed(lambda: _finish(run))
    message = _message(found) | ({"seconds": spent} if whole else {})
    note(f"{folder.name} {number}: {message}")
    return message


def _finish(run: FaithfulnessRun) -> Correlations:
    while not run.done:
        run.advance()
    return run.finish()


def _message(found: Correlations) -> Message:
    """Errors are 95 % intervals' halves, as people are told."""
    return {
        "lds": from_ppm(found.lds_ppm),
        "lds_95": INTERVAL * found.error_ppm / PPM,
        "null_adapter": from_ppm(found.null_ppm),
        "null_adapter_95": INTERVAL * found.null_error_ppm / PPM,
        "null_indexes_to": from_ppm(found.null_high_ppm),
        "above_chance": found.above_chance,
    }
