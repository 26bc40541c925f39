from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commonlore.protocol.attribution.scoring import compute_scores, compute_weights, read_sums
from commonlore.protocol.attribution.written_rows import read_rows
from commonlore.protocol.content.blob_names import describe_blob
from commonlore.protocol.content.manifests import Row
from commonlore.protocol.errors import AttributionFailed, RemoteProtocolError
from commonlore.protocol.receipts.records import Weight
from commonlore.worker.attribution.index import (
    IndexBuild,
    build_index,
    check_index,
    check_rows,
    recheck_row,
    score_rows,
)
from commonlore.worker.attribution.sketch import Int8s


def test_sums_are_exactly_the_rows_of_each_contributor(world: Any, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    compute = world.attributor.row_vectors(world.adapter)
    built = build_index(world.subject, world.rows, tmp_path / "build", compute, lambda *at: told.append(at))
    manifest = built.manifest
    check_index(manifest, built.rows, built.sums)
    assert told[-1] == (9, 9)
    assert len(built.rows) == 9 * (1 + manifest.width // 8)
    matrix = read_rows(built.rows, manifest.width).astype(np.int64)
    expected = compute([owned.row for owned in sorted(world.rows, key=lambda owned: owned.payee)])
    assert (matrix == np.stack(expected)).all()
    start = 0
    for entry, vector in zip(manifest.contributors, read_sums(manifest, built.sums), strict=True):
        assert (matrix[start : start + entry.row_count].sum(0) == vector).all()
        start += entry.row_count
    assert list(manifest.payees) == sorted(world.payee(t) for t in ("fish", "tree", "bird"))
    query = world.attributor.row_queries(world.adapter, [world.rows[0].row])
    scores = score_rows(manifest, built.rows, np.stack(query))
    assert scores.tolist() == (np.stack(query).astype(np.int64) @ matrix.T).tolist()


def test_a_killed_build_goes_on_behind_its_last_row(world: Any, tmp_path: Path) -> None:
    computed: list[Row] = []
    inner = world.attributor.row_vectors(world.adapter)

    class Killed(BaseException):
        pass

    def compute(rows: Sequence[Row]) -> list[Int8s]:
        if len(computed) == 5:
            computed.append(rows[0])
            raise Killed
        computed.extend(rows)
        return inner(rows)  # type: ignore[no-any-return]

    whole = build_index(world.subject, world.rows, tmp_path / "whole", inner)
    path = tmp_path / "killed"
    with pytest.raises(Killed):
        build_index(world.subject, world.rows, path, compute)
    with path.open("ab") as file:
        file.write(b"half a row")
    assert build_index(world.subject, world.rows, path, compute) == whole
    assert len(computed) == 5 + 1 + 4


def test_a_build_under_another_projection_begins_anew(world: Any, tmp_path: Path) -> None:
    inner = world.attributor.row_vectors(world.adapter)
    path = tmp_path / "build"
    first = build_index(world.subject, world.rows, path, inner).manifest
    other = dataclasses.replace(world.subject, seed=bytes(32))
    computed: list[Row] = []

    def compute(rows: Sequence[Row]) -> list[Int8s]:
        computed.extend(rows)
        return inner(rows)  # type: ignore[no-any-return]

    second = build_index(other, world.rows, path, compute).manifest
    assert len(computed) == 9
    assert first.seed != second.seed


def test_a_forged_row_is_caught_by_recomputing_it(world: Any, tmp_path: Path) -> None:
    compute = world.attributor.row_vectors(world.adapter)
    built = build_index(world.subject, world.rows, tmp_path / "build", compute)
    manifest, blob = built.manifest, built.rows
    rows = sorted(world.rows, key=lambda owned: owned.payee)
    project = world.attributor.project_row(world.adapter)
    assert all(recheck_row(manifest, blob, i, rows[i].row, project) for i in (0, 4, 8))
    assert not recheck_row(manifest, blob, 0, rows[1].row, project)
    assert not recheck_row(manifest, blob, 9, rows[0].row, project)

    forged = bytearray(blob)
    size = manifest.row_bytes
    forged[:size] = blob[3 * size : 4 * size]  # another's vector for row 0
    lying = dataclasses.replace(manifest, rows=describe_blob([bytes(forged)])[0])
    assert not recheck_row(lying, bytes(forged), 0, rows[0].row, project)
    assert recheck_row(lying, bytes(forged), 1, rows[1].row, project)
    with pytest.raises(RemoteProtocolError, match="root"):
        check_index(lying, bytes(forged), built.sums)


def test_many_rows_are_summed_exactly_and_too_many_are_refused(world: Any, tmp_path: Path) -> None:
    subject = dataclasses.replace(world.subject, width=8)
    many = [world.rows[0]] * 20_000
    build = IndexBuild(subject, many, tmp_path / "many")
    build.advance(lambda rows: [np.full(8, -64, np.int8)] * len(rows), len(many))
    built = build.finish()
    assert read_sums(built.manifest, built.sums).tolist() == [[-64 * 20_000] * 8]
    for rows in ([], [world.rows[0]] * 100_001):
        with pytest.raises(AttributionFailed, match="an index holds 1 to 100000"):
            IndexBuild(subject, rows, tmp_path / "none")


def test_the_only_contributor_gets_all_or_the_priors_apply(world: Any, tmp_path: Path) -> None:
    own = [owned for owned in world.rows if owned.payee == world.payee("fish")]
    compute = world.attributor.row_vectors(world.adapter)
    built = build_index(world.subject, own, tmp_path / "build", compute)
    (query,) = world.attributor.row_queries(world.adapter, [own[0].row])
    sums, payees = read_sums(built.manifest, built.sums), [world.payee("fish")]
    assert compute_weights(compute_scores(query, sums), payees) == (Weight(payees[0], 1_000_000),)
    assert compute_weights(compute_scores(-query, sums), payees) is None


def test_a_sum_that_is_not_its_rows_is_refused(world: Any, tmp_path: Path) -> None:
    compute = world.attributor.row_vectors(world.adapter)
    built = build_index(world.subject, world.rows, tmp_path / "build", compute)
    manifest, blob, sums = built.manifest, built.rows, built.sums
    one = len(sums) // 3
    exchanged = sums[one : 2 * one] + sums[:one] + sums[2 * one :]
    lying = dataclasses.replace(manifest, sums=describe_blob([exchanged])[0])
    with pytest.raises(RemoteProtocolError, match="not the sum of its rows"):
        check_index(lying, blob, exchanged)
    with pytest.raises(RemoteProtocolError, match="sums are not those"):
        check_index(manifest, blob, exchanged)
    with pytest.raises(RemoteProtocolError, match="rows are not those"):
        check_index(manifest, bytes(len(blob)), sums)
    with pytest.raises(RemoteProtocolError, match="bytes"):
        check_index(manifest, blob[:-1], sums)
    counts = (1, 5, 3)
    moved = zip(manifest.contributors, counts, strict=True)
    moved = tuple(dataclasses.replace(each, row_count=count) for each, count in moved)
    with pytest.raises(RemoteProtocolError, match="not the sum of its rows"):
        check_index(dataclasses.replace(manifest, contributors=moved), blob, sums)
    fewer = (dataclasses.replace(manifest.contributors[0], row_count=1), *manifest.contributors[1:])
    with pytest.raises(RemoteProtocolError, match="9 rows, 7 of"):
        check_rows(dataclasses.replace(manifest, contributors=fewer), blob)


def test_a_row_that_stands_in_an_index_twice_is_refused(world: Any, tmp_path: Path) -> None:
    compute = world.attributor.row_vectors(world.adapter)
    built = build_index(world.subject, [*world.rows, world.rows[0]], tmp_path / "build", compute)
    with pytest.raises(RemoteProtocolError, match="twice"):
        check_index(built.manifest, built.rows, built.sums)


def test_a_query_of_another_width_is_refused(world: Any, tmp_path: Path) -> None:
    compute = world.attributor.row_vectors(world.adapter)
    built = build_index(world.subject, world.rows[:1], tmp_path / "build", compute)
    with pytest.raises(RemoteProtocolError, match="a query of 8 bytes"):
        score_rows(built.manifest, built.rows, np.zeros((1, 8), np.int8))
