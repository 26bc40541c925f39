"""What finding rows by meaning is worth: the figures, and the table that the page shows."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.retrieval import figures, table

ROOT = Path(__file__).parent.parent.parent


def test_ranks_become_recall_and_reciprocal_rank() -> None:
    assert figures([1, 2, None, 5]) == {"recall_at_1": 0.25, "recall_at_4": 0.5, "mrr": 0.425}


def test_the_page_shows_the_committed_result() -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / "retrieval.json").read_text())
    assert table(result) in (ROOT / "docs" / "performance.md").read_text()
