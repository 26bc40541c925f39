from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commonlore.protocol.attribution import compute_scores, compute_weights, read_sums
from commonlore.protocol.blob_names import describe_blob
from commonlore.protocol.errors import AttributionFailed, RemoteProtocolError
from commonlore.protocol.manifests import Row
from commonlore.protocol.receipts import Weight
from commonlore.worker.attribution.index import IndexBuild, build_index, check_index, recheck_row
from commonlore.worker.attribution.sketch import Int8s


def test_sums_are_exactly_the_rows_of_each_contributor(world: Any, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    compute = world.attributor.row_vectors(world.adapter)
    manifest, blob = build_index(
        world.subject, world.rows, tmp_path / "build", compute, lambda *at: told.append(at)
    )
    check_index(manifest, blob)
    assert told[-1] == (9, 9)
    matrix = np.frombuffer(blob, np.int8).reshape(9, manifest.width).astype(np.int64)
    sums = read_sums(manifest.sums, manifest.width)
    start = 0
    for entry, vector in zip(manifest.sums, sums, strict=True):
        assert (matrix[start : start + entry.row_count].sum(0) == vector).all()
        start += entry.row_count
    assert [entry.payee for entry in manifest.sums] == sorted(
        world.payee(t) for t in ("fish", "tree", "bird")
    )


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
    first, _ = build_index(world.subject, world.rows, path, inner)
    other = dataclasses.replace(world.subject, seed=bytes(32))
    computed: list[Row] = []

    def compute(rows: Sequence[Row]) -> list[Int8s]:
        computed.extend(rows)
        return inner(rows)  # type: ignore[no-any-return]

    second, _ = build_index(other, world.rows, path, compute)
    assert len(computed) == 9
    assert first.seed != second.seed


def test_a_forged_row_is_caught_by_recomputing_it(world: Any, tmp_path: Path) -> None:
    compute = world.attributor.row_vectors(world.adapter)
    manifest, blob = build_index(world.subject, world.rows, tmp_path / "build", compute)
    rows = sorted(world.rows, key=lambda owned: owned.payee)
    assert all(recheck_row(manifest, blob, i, rows[i].row, compute) for i in (0, 4, 8))
    assert not recheck_row(manifest, blob, 0, rows[1].row, compute)
    assert not recheck_row(manifest, blob, 9, rows[0].row, compute)

    forged = bytearray(blob)
    forged[: manifest.width] = blob[3 * manifest.width : 4 * manifest.width]  # another's vector for row 0
    lying = dataclasses.replace(manifest, rows=describe_blob([bytes(forged)])[0])
    assert not recheck_row(lying, bytes(forged), 0, rows[0].row, compute)
    assert recheck_row(lying, bytes(forged), 1, rows[1].row, compute)
    with pytest.raises(RemoteProtocolError, match="root"):
        check_index(lying, bytes(forged))


def test_many_rows_are_summed_exactly_and_too_many_are_refused(world: Any, tmp_path: Path) -> None:
    subject = dataclasses.replace(world.subject, width=8)
    many = [world.rows[0]] * 20_000
    build = IndexBuild(subject, many, tmp_path / "many")
    build.advance(lambda rows: [np.full(8, -127, np.int8)] * len(rows), len(many))
    manifest, _ = build.finish()
    assert read_sums(manifest.sums, 8).tolist() == [[-127 * 20_000] * 8]
    for rows in ([], [world.rows[0]] * 100_001):
        with pytest.raises(AttributionFailed, match="an index holds 1 to 100000"):
            IndexBuild(subject, rows, tmp_path / "none")


def test_the_only_contributor_gets_all_or_the_priors_apply(world: Any, tmp_path: Path) -> None:
    own = [owned for owned in world.rows if owned.payee == world.payee("fish")]
    compute = world.attributor.row_vectors(world.adapter)
    manifest, blob = build_index(world.subject, own, tmp_path / "build", compute)
    query = np.frombuffer(blob, np.int8)[: manifest.width]
    sums, payees = read_sums(manifest.sums, manifest.width), [world.payee("fish")]
    assert compute_weights(compute_scores(query, sums), payees) == (Weight(payees[0], 1_000_000),)
    assert compute_weights(compute_scores(-query, sums), payees) is None


def test_a_sum_that_is_not_its_rows_is_refused(world: Any, tmp_path: Path) -> None:
    compute = world.attributor.row_vectors(world.adapter)
    manifest, blob = build_index(world.subject, world.rows, tmp_path / "build", compute)
    inflated = dataclasses.replace(manifest.sums[0], vector=manifest.sums[1].vector)
    with pytest.raises(RemoteProtocolError, match="sum"):
        check_index(dataclasses.replace(manifest, sums=(inflated, *manifest.sums[1:])), blob)
    with pytest.raises(RemoteProtocolError, match="not those"):
        check_index(manifest, bytes(len(blob)))
    with pytest.raises(RemoteProtocolError, match="bytes"):
        check_index(manifest, blob[:-1])
