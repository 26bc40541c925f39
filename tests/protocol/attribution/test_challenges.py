"""Which rows an attributor draws for itself, and what a challenge makes of a receipt."""

from __future__ import annotations

import dataclasses
import hashlib
from itertools import pairwise

import pytest

from commonlore.protocol.attribution.challenges import CHECKED_ROWS, draw_rows, is_well_put
from commonlore.protocol.attribution.faithfulness import CHALLENGED_METHOD, UNMEASURED_METHOD
from commonlore.protocol.attribution.pools import Basis, PoolReceipt, divide_pool, judge
from commonlore.protocol.content.manifests import IndexedContributor, IndexManifest
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.ids import Address, cid_of
from commonlore.protocol.receipts.records import AttributionStatement, Weight

A, B = (Address(bytes([i]) * 20) for i in (1, 2))
PRIORS = (Weight(A, 500_000), Weight(B, 500_000))
NAME = cid_of(b"index")


def index_of(*rows: int) -> IndexManifest:
    """An index whose contributors have so many rows each."""
    hashes = tuple(hashlib.sha256(n.to_bytes(4, "big")).digest() for n in range(sum(rows)))
    own = tuple(IndexedContributor(Address(bytes([at + 1]) * 20), count) for at, count in enumerate(rows))
    return IndexManifest(
        cid_of(b"a"), "m", 8, bytes(32), len(hashes), cid_of(b"r"), bytes(32), hashes, own, cid_of(b"s")
    )


def weights(a: int) -> tuple[Weight, ...]:
    return tuple(w for w in (Weight(A, a), Weight(B, PPM - a)) if w.ppm)


def test_what_is_drawn_follows_from_secret_and_index_alone() -> None:
    index = index_of(100, 100)
    first = draw_rows(b"secret", NAME, index)
    assert len(set(first)) == CHECKED_ROWS
    assert first == draw_rows(b"secret", NAME, index)
    assert first != draw_rows(b"another", NAME, index)
    assert first != draw_rows(b"secret", cid_of(b"another index"), index)
    assert sorted(draw_rows(b"secret", NAME, index_of(2, 3))) == list(range(5)), (
        "a small index is looked at whole"
    )


def test_every_contributor_is_looked_at_however_few_its_rows() -> None:
    index = index_of(1_000, 3, 500, 2)
    starts = (0, 1_000, 1_003, 1_503, 1_505)
    for n in range(20):
        drawn = draw_rows(bytes([n]), NAME, index)
        assert [sum(a <= at < b for at in drawn) for a, b in pairwise(starts)] == [2, 2, 2, 2]


@pytest.mark.parametrize(("part", "attributors"), [(0.1, 1), (0.1, 2), (0.3, 1), (0.05, 4)])
def test_forged_rows_are_found_as_often_as_is_said(part: float, attributors: int) -> None:
    """1 - (1 - f)^(k n), of a part f of everybody's rows: docs/attribution.md."""
    index, tries = index_of(*[20] * 4), 300
    forged = {at for at in range(80) if at % 20 < 20 * part}
    found = 0
    for n in range(tries):
        seen = (draw_rows(f"{n}/{m}".encode(), NAME, index) for m in range(attributors))
        found += any(forged.intersection(drawn) for drawn in seen)
    assert found / tries == pytest.approx(1 - (1 - part) ** (CHECKED_ROWS * attributors), abs=0.1)


def test_a_challenge_lets_no_scores_divide() -> None:
    scored, own = weights(900_000), weights(600_000)
    both = judge((own, own), PRIORS, 2)
    assert (both.basis, both.weights) == (Basis.CHALLENGED, own), (
        "the priors beside what the prompt's parts did"
    )
    alone = judge((own,), PRIORS, 1)
    assert (alone.basis, alone.weights) == (Basis.CHALLENGED, own)
    for stated in ((scored, own), (own, scored), (PRIORS, PRIORS)):
        one = judge(stated, PRIORS, 1)
        assert (one.basis, one.weights) == (Basis.CHALLENGED, PRIORS), "no word of one alone is paid"
    apart = judge((scored, own), PRIORS, 2)
    assert (apart.basis, apart.weights) == (Basis.CHALLENGED, PRIORS)


def test_a_pool_names_what_was_challenged() -> None:
    challenged = PoolReceipt(b"\x01" * 32, 100, (weights(900_000), PRIORS), 1)
    scored = PoolReceipt(b"\x02" * 32, 100, (weights(900_000),))
    divided = divide_pool(b"", [challenged, scored], PRIORS)
    assert divided.challenged == {challenged.receipt_hash}
    assert not divided.disputed
    assert divided.receipts[challenged.receipt_hash].weights == PRIORS
    assert divided.mean == weights(700_000)


def test_a_challenge_names_a_row_of_an_index_and_nothing_else_does() -> None:
    stated = AttributionStatement(
        bytes(32), cid_of(b"a"), NAME, CHALLENGED_METHOD, bytes(32), PRIORS, challenged=0
    )
    assert is_well_put(stated)
    for change in ({"challenged": None}, {"index": None}, {"method": "m"}, {"method": UNMEASURED_METHOD}):
        assert not is_well_put(dataclasses.replace(stated, **change)), change
    assert is_well_put(dataclasses.replace(stated, method="m", challenged=None))
