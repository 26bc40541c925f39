"""The rows of an index that can still be had: all, or those that stayed when others were withdrawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...protocol.attribution.differences import staying
from ...protocol.attribution.scoring import Int8s, Int64s
from ...protocol.content.manifests import Row
from ...worker.attribution.index import ProjectRow, recheck_row, recheck_written, score_rows
from ...worker.attribution.remainder import row_at, score_staying
from .difference_evidence import does_not_hold
from .index_evidence import IndexEvidence


def positions_at_hand(index: IndexEvidence) -> Sequence[int]:
    """Where in the index they stand. A difference that does not hold has none."""
    if index.rows is not None:
        return range(index.manifest.row_count)
    if index.difference is None or does_not_hold(index, index.difference):
        return ()
    return list(staying(index.manifest, index.difference.remainder.gone))


def recheck_at(index: IndexEvidence, position: int, row: Row, project: ProjectRow) -> bool:
    """Whether the row at one of these positions is what recomputing it from `row` gives, up to rounding."""
    if index.rows is not None:
        return recheck_row(index.manifest, index.rows, position, row, project)
    assert index.difference is not None
    written = row_at(index.manifest, index.difference.remainder, position)
    return written is not None and recheck_written(index.manifest, position, written, row, project)


def scored_rows(index: IndexEvidence, query: Int8s) -> tuple[Sequence[int], Int64s]:
    """Their positions, and the inner product of each with a query, exact. Raises RemoteProtocolError."""
    if index.rows is not None:
        scores = score_rows(index.manifest, index.rows, query[np.newaxis])[0]
        return range(index.manifest.row_count), scores
    if not positions_at_hand(index):
        return (), np.zeros(0, np.int64)
    assert index.difference is not None
    return score_staying(index.manifest, index.difference.remainder, query)
