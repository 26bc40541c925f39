"""What each row that counts is for: trained on, only measured, indexed."""

from __future__ import annotations

from collections.abc import Sequence

from ...protocol.attribution.indexing import held_out, plan_rows, trained_rows
from ...protocol.content.manifests import AdapterManifest
from ...protocol.content.rows import row_hash
from ...worker.attribution.index import OwnedRow
from ...worker.factory.job import Pair
from ...worker.factory.selection import Selected

HELD_OUT, MOST_HELD_OUT = 10, 128
"""Without held-out pairs in the order, every tenth row is only measured, and no more than so many."""


def divide_rows(selected: Selected, heldout: Sequence[Pair]) -> tuple[list[OwnedRow], tuple[Pair, ...]]:
    """(trained, held out): the order's own held-out pairs, or some of the rows."""
    rows = {row_hash(owned.row): owned for owned in selected.rows}
    count = 0 if heldout else count_held_out(len(rows))
    trained = [digest for _, digest in trained_rows(selected.counted(), count)]
    measured = [rows[digest].row for digest in sorted(held_out(rows, count))]
    pairs = tuple(Pair(row.question, row.answer) for row in measured)
    return [rows[digest] for digest in trained], pairs or tuple(heldout)


def count_held_out(rows: int) -> int:
    """How many rows are only measured where an order has no held-out pairs of its own."""
    return min(MOST_HELD_OUT, max(1, rows // HELD_OUT)) if rows > 1 else 0


def planned_rows(selected: Selected, manifest: AdapterManifest, seed: bytes) -> list[OwnedRow]:
    """The rows that an index holds, in its order."""
    assert manifest.indexed is not None
    rows = {row_hash(owned.row): owned for owned in selected.rows}
    return [rows[digest] for _, digest in plan_rows(selected.counted(), manifest.indexed, seed)]
