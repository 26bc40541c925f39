"""What each row that counts is for: trained on, only measured, indexed."""

from __future__ import annotations

from collections.abc import Sequence

from ...protocol.attribution.indexing import held_out, plan_rows
from ...protocol.content.manifests import AdapterManifest
from ...protocol.content.rows import row_hash
from ...worker.attribution.index import OwnedRow
from ...worker.factory.job import Pair
from ...worker.factory.selection import Selected

HELD_OUT = 10
"""Without held-out pairs in the order, every tenth row is only measured."""


def divide_rows(rows: Sequence[OwnedRow], heldout: Sequence[Pair]) -> tuple[list[OwnedRow], tuple[Pair, ...]]:
    """(trained, held out): the order's own held-out pairs, or a tenth of the rows."""
    if heldout:
        return list(rows), tuple(heldout)
    measured = held_out((row_hash(owned.row) for owned in rows), count_held_out(len(rows)))
    by_hash = sorted(rows, key=lambda owned: row_hash(owned.row))
    pairs = [Pair(owned.row.question, owned.row.answer) for owned in by_hash[: len(measured)]]
    return by_hash[len(measured) :], tuple(pairs)


def count_held_out(rows: int) -> int:
    """How many rows are only measured where an order has no held-out pairs of its own."""
    return max(1, rows // HELD_OUT) if rows > 1 else 0


def planned_rows(selected: Selected, manifest: AdapterManifest, seed: bytes) -> list[OwnedRow]:
    """The rows that an index holds, in its order."""
    assert manifest.indexed is not None
    rows = {row_hash(owned.row): owned for owned in selected.rows}
    return [rows[digest] for _, digest in plan_rows(selected.counted(), manifest.indexed, seed)]
