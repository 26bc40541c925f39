"""Measuring a real adapter's faithfulness: half of its rows at a time trained on, scores beside it.

Rules of this file:
- The folder's job names everything: its rows are those that halves are drawn of, what it holds out are the
  queries. So whoever takes a row back finds and deletes it like any training run.
- What is drawn follows from the index's rows root, which its author could not choose: anybody measures the
  same.
- A measurement may be killed at any time: each half's values are appended to a file under a digest of
  everything they depend on, and the next one goes on behind the last whole half.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...protocol.attribution.faithfulness import Correlations
from ...protocol.content.manifests import IndexManifest, Row
from ...protocol.ids import Cid, cid_of
from ..factory.checkpoint import write_adapter
from ..factory.examples import Encoder
from ..factory.job import Pair, job_digest, read_job
from ..factory.lora import DTYPES
from ..models.architecture import LINEARS
from ..models.reference import BaseModel
from .attributor import Attributor
from .brief_training import train_briefly, values
from .factors import adapter_shapes
from .faithfulness import Floats64, draw_halves, measure_lds
from .index import score_rows
from .measured_rows import deal_rows

VALUES_FILE = "values"
NULL_FILE = "null.safetensors"
_SALT = bytes(32)
_DIGEST_BYTES, _VALUE_BYTES = 32, 8


class FaithfulnessRun:
    """A resumable measurement. Call `advance` until `done`, then `finish`."""

    def __init__(
        self,
        attributor: Attributor,
        base: BaseModel,
        index: tuple[IndexManifest, bytes],
        measured: tuple[Path, Sequence[int], int],
    ) -> None:
        """`index` is (manifest, rows blob), its adapter loaded in the attributor; `measured` are the folder
        with the job, the places of the job's rows in the index, and how many halves. Raises ConfigError.
        """
        self._attributor, self._base = attributor, base
        self._index, self._blob = index
        self._folder, self._places, self.halves = measured
        self._job = read_job(self._folder)
        self._members = draw_halves(len(self._job.rows), self.halves, self._seed)
        encoder = Encoder(base)
        self._rows = [encoder.pair(pair) for pair in self._job.rows]
        self._queries = [encoder.pair(pair) for pair in self._job.heldout]
        self._shapes = adapter_shapes(base.architecture, self._job.config.rank, LINEARS)
        self.done_halves = self._resume()

    @property
    def done(self) -> bool:
        """Whether every half was trained on."""
        return self.done_halves == self.halves

    def advance(self) -> None:
        """Train on the next half and keep what that is worth. Raises TrainingFailed, AttributionFailed."""
        half = [self._rows[row] for row in np.flatnonzero(self._members[self.done_halves])]
        factors = train_briefly(self._attributor.model, self._shapes, self._job.config, half)
        found = values(self._attributor.model, factors, self._queries)
        with self._path.open("ab") as file:
            file.write(np.array(found, "<f8").tobytes())
        self.done_halves += 1

    def finish(self) -> Correlations:
        """Compare with the scores. Raises RemoteProtocolError, TrainingFailed, AttributionFailed."""
        raw = self._path.read_bytes()[_DIGEST_BYTES:]
        worth = np.frombuffer(raw, "<f8").reshape(self.halves, -1).astype(np.float64)
        found = self._scores(), self._null_scores()
        return measure_lds(*found, self._members, worth, self._seed)

    # ---- scores

    def _scores(self) -> Floats64:
        """(queries, rows): the index's."""
        queries = self._attributor.row_queries(self._index.adapter, _as_rows(self._job.heldout))
        every = score_rows(self._index, self._blob, np.stack(queries))
        return every[:, list(self._places)].astype(np.float64)

    def _null_scores(self) -> Floats64:
        """(queries, rows): of an adapter that learnt other rows' questions with the answers of a third."""
        dealt = deal_rows(self._job.rows, self._seed)
        null = self._load_null(dealt)
        try:
            rows = np.stack(self._attributor.row_vectors(null)(_as_rows(dealt))).astype(np.float64)
            queries = self._attributor.row_queries(null, _as_rows(self._job.heldout))
        finally:
            self._attributor.forget(null)
        return np.stack(queries).astype(np.float64) @ rows.T

    def _load_null(self, dealt: list[Pair]) -> Cid:
        """Train the null adapter on as much as each half, and make it known."""
        encoder, config = Encoder(self._base), self._job.config
        examples = [encoder.pair(pair) for pair in dealt]
        factors = train_briefly(self._attributor.model, self._shapes, config, examples)
        path = self._folder / NULL_FILE
        write_adapter(path, factors.tensors, DTYPES[config.precision])
        subject = self._attributor.subject(self._index.adapter)
        null = cid_of(b"commonlore/null-adapter/1" + self._seed)
        self._attributor.load(replace(subject, adapter=null, early=path))
        return null

    # ---- what is kept

    @property
    def _seed(self) -> bytes:
        return self._index.rows_root

    @property
    def _path(self) -> Path:
        return self._folder / VALUES_FILE

    def _resume(self) -> int:
        digest, size = self._digest(), _VALUE_BYTES * len(self._queries)
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            content = b""
        whole = min((len(content) - _DIGEST_BYTES) // size, self.halves)
        if content[:_DIGEST_BYTES] != digest or whole < 0:
            content, whole = digest, 0
        self._path.write_bytes(content[: _DIGEST_BYTES + whole * size])
        return whole

    def _digest(self) -> bytes:
        job = job_digest(self._job, self._base.id)
        return hashlib.sha256(f"{job} {self.halves}".encode() + self._seed).digest()


def _as_rows(pairs: tuple[Pair, ...] | list[Pair]) -> list[Row]:
    """Salts make no difference to vectors."""
    return [Row(pair.question, pair.answer, _SALT) for pair in pairs]
