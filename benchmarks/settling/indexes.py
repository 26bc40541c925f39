"""Gas of gradient indexes: one commitment for each thing that can be wrong with one, and each proof."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from commonlore.contracts.client.indexing import INDEX_PROOFS, commitment_tuple, proof_argument
from commonlore.contracts.staging import cast
from commonlore.contracts.staging.cast import key_of
from commonlore.protocol.attribution.index_frauds import IndexArgument, IndexFraudKind, IndexOpenings
from commonlore.protocol.attribution.index_trees import (
    IndexTrees,
    PublishedIndex,
    RunningSum,
    build_index_trees,
    closing_sums,
    row_leaves,
)
from commonlore.protocol.attribution.scoring import write_sums
from commonlore.protocol.attribution.written_rows import write_row
from commonlore.protocol.content.manifests import IndexedContributor, IndexManifest
from commonlore.protocol.ids import ZERO_ADDRESS, cid_of, keccak256

from .lane import MeasuredStage

ATTRIBUTOR = 4
MAKER = key_of("attributor").address
WIDTH = 32_768
"""Places of an index's row, as attributors build it."""
ROWS = 1_000
"""Rows of the index, half of each contributor: a row's path is ten steps."""
_Wrong = tuple[IndexFraudKind, IndexTrees, tuple[IndexArgument, ...]]


def prove_indexes(stage: MeasuredStage) -> None:
    """Commit to each wrong index, and prove it."""
    for number, (kind, trees, arguments) in enumerate(_wrong_indexes()):
        stage.bond(MAKER, ATTRIBUTOR, 400)
        made = trees.commitment(MAKER, cid_of(bytes([number])), _published(0).manifest)
        fields = commitment_tuple(made)
        stage.call(MAKER, "Indexes", "commitIndex", fields)
        given = [proof_argument(each) for each in arguments]
        stage.call(cast.WATCHER, "Indexes", INDEX_PROOFS[kind], fields, *given)


def _wrong_indexes() -> Iterator[_Wrong]:
    honest, trees = _published(0), build_index_trees(_published(0))
    first, second, *others = trees.running

    size = honest.manifest.row_bytes
    odd = replace(honest, rows=honest.rows[:size] + b"\xff" + honest.rows[size + 1 :])
    bad_row = replace(trees, row_leaves=row_leaves(odd))
    yield IndexFraudKind.BAD_ROW, bad_row, (IndexOpenings(odd, bad_row).row(1),)

    larger = _published(1)
    closing = closing_sums(larger.manifest, larger.sums)
    last = replace(trees.running[-1], sum_root=closing[1].sum_root)
    bad_sum = replace(trees, running=(*trees.running[:-1], last), closing=closing)
    yield IndexFraudKind.BAD_SUM, bad_sum, IndexOpenings(larger, bad_sum).step(ROWS - 1, WIDTH - 1)

    bad_closing = replace(trees, closing=closing)
    made = IndexOpenings(honest, bad_closing)
    yield IndexFraudKind.BAD_CLOSING, bad_closing, (made.closing(1), (made.running(ROWS - 1),))

    early = replace(trees.closing[0], end=trees.closing[0].end - 1)
    gap = replace(trees, closing=(early, trees.closing[1]))
    made = IndexOpenings(honest, gap)
    yield IndexFraudKind.GAP, gap, ((made.closing(0),), made.closing(1), (made.running(early.end),))

    changed: dict[IndexFraudKind, RunningSum] = {
        IndexFraudKind.TWICE: replace(second, row_hash=first.row_hash),
        IndexFraudKind.UNSORTED: replace(second, account=ZERO_ADDRESS),
    }
    for kind, other in changed.items():
        pair = replace(trees, running=(first, other, *others))
        made = IndexOpenings(honest, pair)
        yield kind, pair, (made.running(0), made.running(1))


def _published(too_much: int) -> PublishedIndex:
    """An index of equal rows, whose last contributor's sum has `too_much` in its last place."""
    row, half = np.full(WIDTH, 32, np.int8), ROWS // 2
    sums = [np.full(WIDTH, 32 * half, np.int64) for _ in range(2)]
    sums[1][-1] += too_much
    manifest = IndexManifest(
        adapter=cid_of(b"adapter"),
        method="measured",
        width=WIDTH,
        seed=bytes(32),
        row_count=ROWS,
        rows=cid_of(b"rows"),
        rows_root=bytes(32),
        row_hashes=tuple(keccak256(number.to_bytes(4, "big")) for number in range(ROWS)),
        contributors=(IndexedContributor(cast.ALICE, half), IndexedContributor(cast.BOB, half)),
        sums=cid_of(b"sums"),
    )
    return PublishedIndex(manifest, write_row(row) * ROWS, write_sums(sums))
