"""Scores: whose rows pushed the adapter towards an answer.

Rules of this file:
- The base is loaded once; an adapter is its early checkpoint, its projection and its index. An answer costs
  one backward pass and one dot product per contributor.
- What arrives (checkpoint files, indexes) is checked before it is used; a bad adapter fails only itself.
- The query vector is the only thing here that depends on a machine's arithmetic; weights follow from it in
  integers (`protocol.attribution.scoring`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ...protocol.attribution.scoring import Sums, compute_scores, compute_weights, read_sums
from ...protocol.attribution.written_rows import Blob
from ...protocol.content.manifests import IndexManifest, Row
from ...protocol.errors import InvalidAdapter, NotFound, RemoteProtocolError
from ...protocol.ids import Address, Cid
from ...protocol.requests.records import ChatMessage
from ..factory.examples import Encoder
from ..factory.job import Pair
from ..models.reference import BaseModel
from ..models.tensor_file import Malformed, open_tensor_file
from .adapted import AdaptedModel
from .curvature import read_curvature
from .factors import Factors, adapter_shapes
from .gradient import ROW_TERMS, Transform, compute_losses, compute_vectors
from .index import IndexBuild, OwnedRow, ProjectRow
from .sketch import Int8s, Sketch
from .subject import Score, Subject


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    subject: Subject
    factors: Factors
    transform: Transform


@dataclass(frozen=True, slots=True, eq=False)
class _Index:
    payees: tuple[Address, ...]
    sums: Sums


class Attributor:
    """One base in memory and the adapters that are scored on it. Not for several threads."""

    def __init__(self, base: BaseModel) -> None:
        self._base, self._architecture = base.id, base.architecture
        self._encoder = Encoder(base)
        self.model = AdaptedModel(base)
        self._loaded: dict[Cid, _Loaded] = {}
        self._indexes: dict[Cid, _Index] = {}

    def load(self, subject: Subject) -> None:
        """Make an adapter known. Raises InvalidAdapter where it is another base's or its files do not fit."""
        if subject.base not in (None, self._base):
            raise InvalidAdapter(f"adapter {subject.adapter} is for {subject.base}, not for {self._base}")
        if subject.rank < 1:
            raise InvalidAdapter(f"adapter {subject.adapter} has rank {subject.rank}")
        shapes = adapter_shapes(self._architecture, subject.rank, subject.targets)
        factors = read_factors(subject.early, shapes, subject.alpha / subject.rank)
        curvature = read_curvature(subject.curvature, shapes) if subject.curvature is not None else None
        size = curvature.size if curvature is not None else factors.size
        transform = Transform(Sketch.draw(subject.seed, size, subject.width), curvature)
        self._loaded[subject.adapter] = _Loaded(subject, factors, transform)

    def subject(self, adapter: Cid) -> Subject:
        """What was loaded as this adapter. Raises NotFound."""
        return self._find(adapter).subject

    def forget(self, adapter: Cid) -> None:
        """Free an adapter and its index."""
        self._loaded.pop(adapter, None)
        self._indexes.pop(adapter, None)

    def use_index(self, manifest: IndexManifest, sums: Blob) -> None:
        """Score the adapter's answers against this index; `sums` is the blob of that name in it,
        which is read where it is.

        Raises RemoteProtocolError, NotFound.
        """
        subject = self._find(manifest.adapter).subject
        if (manifest.method, manifest.width, manifest.seed) != (subject.method, subject.width, subject.seed):
            raise RemoteProtocolError(
                f"the index of {manifest.adapter} was built with another method or projection"
            )
        self._indexes[manifest.adapter] = _Index(manifest.payees, read_sums(manifest, sums))

    def begin_index(self, adapter: Cid, rows: Sequence[OwnedRow], path: Path) -> IndexBuild:
        """A build of the adapter's index, kept in the file `path`. Raises NotFound."""
        return IndexBuild(self._find(adapter).subject, rows, path)

    def row_vectors(self, adapter: Cid) -> Callable[[Sequence[Row]], list[Int8s]]:
        """How rows become vectors under this adapter; what is returned raises AttributionFailed."""
        loaded = self._find(adapter)

        def compute(rows: Sequence[Row]) -> list[Int8s]:
            examples = [self._encoder.pair(Pair(row.question, row.answer)) for row in rows]
            return compute_vectors(self.model, loaded.factors, loaded.transform.row, examples, ROW_TERMS)

        return compute

    def project_row(self, adapter: Cid) -> ProjectRow:
        """How a row is projected under this adapter, before its signs are taken; what is returned raises
        AttributionFailed."""
        loaded = self._find(adapter)

        def project(row: Row) -> tuple[npt.NDArray[np.float64], int]:
            example = self._encoder.pair(Pair(row.question, row.answer))
            form = loaded.transform.project
            (found,) = compute_vectors(self.model, loaded.factors, form, [example], ROW_TERMS)
            return found, len(loaded.transform.sketch.draws)

        return project

    def row_queries(self, adapter: Cid, rows: Sequence[Row]) -> list[Int8s]:
        """Rows' answers as queries. Raises NotFound, AttributionFailed."""
        loaded = self._find(adapter)
        examples = [self._encoder.pair(Pair(row.question, row.answer)) for row in rows]
        return compute_vectors(self.model, loaded.factors, loaded.transform.answer, examples)

    def query(self, adapter: Cid, messages: Sequence[ChatMessage], output: Sequence[int] | str) -> Int8s:
        """An answer's vector, from its output tokens (or, where only that is left, its text).

        Raises AttributionFailed.
        """
        loaded = self._find(adapter)
        tokens = self._encoder.output_tokens(output) if isinstance(output, str) else output
        example = self._encoder.answer(messages, tokens)
        return compute_vectors(self.model, loaded.factors, loaded.transform.answer, [example])[0]

    def losses(
        self, adapter: Cid, variants: Sequence[Sequence[ChatMessage]], output: Sequence[int]
    ) -> list[float]:
        """Nats of an answer's tokens after each of these prompts, and last after the first one without the
        adapter. Raises NotFound, AttributionFailed.
        """
        factors = self._find(adapter).factors
        examples = [self._encoder.answer(turns, output) for turns in variants]
        return [
            *compute_losses(self.model, factors, examples),
            *compute_losses(self.model, Factors({}, 1.0), examples[:1]),
        ]

    def score(self, adapter: Cid, messages: Sequence[ChatMessage], output: Sequence[int] | str) -> Score:
        """Who an answer is owed to. Raises NotFound without adapter or index, AttributionFailed."""
        if adapter not in self._indexes:
            raise NotFound(f"no gradient index of {adapter} is loaded")
        index = self._indexes[adapter]
        query = self.query(adapter, messages, output)
        weights = compute_weights(compute_scores(query, index.sums), index.payees)
        return Score(query.tobytes(), weights)

    def _find(self, adapter: Cid) -> _Loaded:
        if adapter not in self._loaded:
            raise NotFound(f"the adapter {adapter} is not loaded for attribution")
        return self._loaded[adapter]


def read_factors(path: Path, shapes: Mapping[str, tuple[int, int]], scale: float) -> Factors:
    """An adapter file's tensors as float32.

    Raises InvalidAdapter unless names and shapes are exactly these.
    """
    try:
        file = open_tensor_file(path)
        found = {name: span.shape for name, span in file.tensors.items()}
        if found != dict(shapes):
            odd = sorted(found.items() ^ shapes.items())[0][0]
            raise InvalidAdapter(f"the early checkpoint {path} does not fit its base and rank: see {odd}")
        tensors = {name: torch.from_numpy(array.astype(np.float32)) for name, array in file.arrays()}
    except OSError as wrong:
        raise InvalidAdapter(f"the early checkpoint {path} cannot be read: {wrong.strerror}") from None
    except Malformed as wrong:
        raise InvalidAdapter(f"the early checkpoint {path} {wrong}") from None
    return Factors(tensors, scale)
