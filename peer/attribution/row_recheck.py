"""Rows of an index computed again by level 2: those that were challenged, or else some that are drawn.

Rules of this file: a challenge is right exactly where the row that it names differs; a receipt that was paid
by the priors for it then is as it must be, and the index is nobody's basis here, so that no other row is
looked at. Where nobody challenges, rows are drawn by what nobody chose: the receipt and the index together.
Of an index whose rows were withdrawn in part only those that stay can be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .evidence import Evidence
from .findings import Checks
from .index_rows import committed_rows
from .rows_at_hand import positions_at_hand, recheck_at

if TYPE_CHECKING:
    from ...worker.attribution.attributor import Attributor

DRAWN_ROWS = 3


def recheck_rows(evidence: Evidence, attributor: Attributor, checks: Checks) -> None:
    """What computing rows of the receipt's index again shows. Raises AttributionFailed."""
    assert evidence.index is not None
    positions = positions_at_hand(evidence.index)
    if evidence.withdrawn and not (positions and evidence.datanets):
        return checks.shows(f"NOTE: {evidence.withdrawn}: no row of the index can be computed again")
    named = (each.record.challenged for each in evidence.counted)
    challenged = sorted({place for place in named if place is not None})
    index = evidence.index.manifest
    for place in sorted(set(challenged) - set(positions)):
        checks.shows(f"NOTE: row {place} was challenged, and was withdrawn: whether rightly nobody can tell")
    places = challenged or _drawn(positions, evidence.stored.receipt_hash + index.rows_root)
    places = sorted(set(places) & set(positions))
    for position, wrong in _computed(evidence, attributor, places):
        row = f"row {position} of the index"
        if not challenged:
            (checks.fails if wrong else checks.shows)(
                f"{row} {wrong}" if wrong else f"{row} is its row's gradient, and its contributor's"
            )
        elif wrong:
            checks.shows(f"{row} {wrong}: it is challenged rightly, and the priors divide as they must")
        else:
            checks.fails(f"{row} is its row's gradient: it is challenged falsely, and the priors divide")
    return None


def _computed(evidence: Evidence, attributor: Attributor, places: list[int]) -> Iterator[tuple[int, str]]:
    """Rows by their places, and what is wrong with each; empty where nothing is."""
    assert evidence.index is not None
    index = evidence.index.manifest
    rows, owners = committed_rows(evidence.datanets), index.owners
    project = attributor.project_row(index.adapter)
    for position in places:
        owner, row = rows.get(index.row_hashes[position], (None, None))
        if row is None:
            yield position, "is in none of the adapter's Datanets"
        elif owner != owners[position]:
            yield position, "is credited to another than its contributor"
        elif not recheck_at(evidence.index, position, row, project):
            yield position, "is not its row's gradient"
        else:
            yield position, ""


def _drawn(positions: Sequence[int], seed: bytes) -> list[int]:
    lots = sorted(positions, key=lambda n: hashlib.sha256(seed + n.to_bytes(4, "big")).digest())
    return sorted(lots[:DRAWN_ROWS])
