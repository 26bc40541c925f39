"""An index of as many rows as a shard may have, and of one more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from commonlore.protocol.attribution.scoring import compute_scores, compute_weights, read_sums
from commonlore.protocol.content.manifests import MAX_ROWS_PER_SHARD, Row
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import AttributionFailed
from commonlore.protocol.ids import Address, cid_of
from commonlore.worker.attribution.index import IndexBuild, OwnedRow, check_index
from commonlore.worker.attribution.subject import Subject

WIDTH = 8
ALONE = Address(b"a" * 20)


def test_a_hundred_thousand_rows_of_one_contributor_are_indexed_and_one_more_is_refused(
    tmp_path: Path,
) -> None:
    assert MAX_ROWS_PER_SHARD == 100_000
    subject = Subject(cid_of(b"adapter"), tmp_path / "early", 8, 16, ("q_proj",), bytes(32), WIDTH)
    rows = [
        OwnedRow(ALONE, Row("?", str(number), number.to_bytes(32, "big")))
        for number in range(MAX_ROWS_PER_SHARD + 1)
    ]
    with pytest.raises(AttributionFailed, match="1 to 100000: index fewer"):
        IndexBuild(subject, rows, tmp_path / "index")
    heaviest = np.full(WIDTH, 64, np.int8)
    build = IndexBuild(subject, rows[:-1], tmp_path / "index")
    build.advance(lambda some: [heaviest] * len(some), MAX_ROWS_PER_SHARD)
    built = build.finish()
    check_index(built.manifest, built.rows, built.sums)
    sums = read_sums(built.manifest, built.sums)
    assert sums.tolist() == [[64 * MAX_ROWS_PER_SHARD] * WIDTH]
    query = np.full(WIDTH, 127, np.int8)
    for sign, weights in ((1, [(ALONE, PPM)]), (-1, None)):
        found = compute_weights(compute_scores((sign * query).astype(np.int8), sums), [ALONE])
        assert (found and [(weight.payee, weight.ppm) for weight in found]) == weights
