from __future__ import annotations

import dataclasses

import pytest

from commonlore.protocol.attribution.faithfulness import (
    Correlations,
    Faithfulness,
    allows_scores,
    disagree,
    from_ppm,
    open_measurement,
    to_ppm,
)
from commonlore.protocol.content.manifests import AdapterManifest, PriorWeight, Recipe
from commonlore.protocol.content.splits import DEFAULT_SPLIT
from commonlore.protocol.encoding.codec import decode, encode, record_cid
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import CommonloreError, LocalProtocolError
from commonlore.protocol.ids import Address, cid_of, keccak256
from commonlore.protocol.receipts.records import AttributionStatement, Weight
from commonlore.protocol.signing.envelope import seal
from commonlore.protocol.signing.keys import PeerKey

FOUND = Correlations(to_ppm(0.6), 200_000, to_ppm(0.3), to_ppm(0.0), 150_000)
MEASURED = Faithfulness(cid_of(b"adapter"), cid_of(b"index"), "m/1", 8, 12, 100, 12, 4, FOUND)


def test_above_chance_is_the_whole_interval_and_more_than_ignorance_reaches() -> None:
    assert MEASURED.above_chance
    for change in (
        {"error_ppm": 310_000},  # 0.6 - 1.96 · 0.31 < 0
        {"null_high_ppm": to_ppm(0.6)},
        {"null_ppm": to_ppm(0.2)},  # 0.40 apart, and 1.645 · sqrt(0.2² + 0.15²) = 0.41
        {"null_ppm": to_ppm(0.7), "null_error_ppm": 0},
        {"null_error_ppm": 310_000},
        {"lds_ppm": to_ppm(0.0)},
        {"lds_ppm": to_ppm(-1.0)},
    ):
        assert not dataclasses.replace(FOUND, **change).above_chance, change
    assert dataclasses.replace(FOUND, null_ppm=to_ppm(0.18)).above_chance, "better is asked for, not other"
    assert decode(Faithfulness, encode(MEASURED)) == MEASURED


def test_measurements_disagree_where_neither_rounding_nor_their_errors_explain_it() -> None:
    """An author's 0.99 for garbage, against what anybody finds by the same halves, or by others."""

    def of(lds: float, error_ppm: int = 200_000, subsets: int = 8) -> Faithfulness:
        reached = dataclasses.replace(FOUND, lds_ppm=to_ppm(lds), error_ppm=error_ppm)
        return dataclasses.replace(MEASURED, found=reached, subsets=subsets)

    claimed = of(0.99, 10_000)
    assert disagree(claimed, of(0.55)), "the same halves give the same, whatever their error"
    assert not disagree(claimed, of(0.90))
    assert not disagree(claimed, of(0.61, subsets=6)), "others may be that far off"
    assert disagree(claimed, of(0.05, subsets=6))
    assert disagree(of(0.05, subsets=6), claimed)


def test_correlations_travel_as_integers() -> None:
    assert [to_ppm(value) for value in (-1.0, 0.0, 0.25, 1.0)] == [0, 1_000_000, 1_250_000, 2_000_000]
    assert from_ppm(to_ppm(-0.4)) == pytest.approx(-0.4)
    for impossible in (1.01, -1.01, float("nan")):
        with pytest.raises(LocalProtocolError, match="no correlation"):
            to_ppm(impossible)


AUTHOR, STRANGER = (PeerKey.generate(keccak256(name)) for name in (b"author", b"stranger"))
PAYEE = Address(b"\x0a" * 20)
MANIFEST = AdapterManifest(
    "a", cid_of(b"base"), cid_of(b"weights"), 7, 8, 16, ("q_proj",), bytes(32), (cid_of(b"d"),),
    Recipe("test", 1, 1, 1, 8, 16, 0, 1, "fp32", "{question}"), None, None, DEFAULT_SPLIT,
    (PriorWeight(PAYEE, PPM),), "CC0-1.0", AUTHOR.public, PAYEE,
)  # fmt: skip
OWN = dataclasses.replace(MEASURED, adapter=record_cid(MANIFEST))


def test_a_measurement_is_its_authors_and_of_enough() -> None:
    assert open_measurement(seal(AUTHOR, OWN), MANIFEST) == OWN
    beyond = dataclasses.replace(FOUND, lds_ppm=2 * PPM + 1)
    for key, forged, why in (
        (STRANGER, OWN, "not its author's"),
        (AUTHOR, MEASURED, "not its author's"),
        (AUTHOR, dataclasses.replace(OWN, found=beyond), "no correlation"),
        (AUTHOR, dataclasses.replace(OWN, subsets=3), "measure nothing"),
        (AUTHOR, dataclasses.replace(OWN, rows=3), "measure nothing"),
        (AUTHOR, dataclasses.replace(OWN, queries=1), "measure nothing"),
        (AUTHOR, dataclasses.replace(OWN, batch=0), "nobody could measure"),
        (AUTHOR, dataclasses.replace(OWN, steps=0), "nobody could measure"),
        (AUTHOR, dataclasses.replace(OWN, steps=1 << 31), "nobody could measure"),
    ):
        with pytest.raises(CommonloreError, match=why):
            open_measurement(seal(key, forged), MANIFEST)
    for garbage in (b"", b"\x81" * 5_000 + b"\x00", bytes(1 << 19)):
        with pytest.raises(CommonloreError):
            open_measurement(garbage, MANIFEST)


def test_scores_divide_by_a_measurement_of_their_very_index() -> None:
    cid = cid_of(seal(AUTHOR, OWN))
    weights = (Weight(PAYEE, PPM),)
    stated = AttributionStatement(
        bytes(32), OWN.adapter, OWN.index, "m/1", bytes(32), weights, faithfulness=cid
    )
    assert allows_scores(stated, {cid: OWN})
    for change in (
        {"index": None},
        {"index": cid_of(b"another index")},
        {"adapter": cid_of(b"another adapter")},
        {"method": "m/2"},
        {"faithfulness": None},
        {"faithfulness": cid_of(b"another measurement")},
    ):
        assert not allows_scores(dataclasses.replace(stated, **change), {cid: OWN}), change
    chance = dataclasses.replace(OWN, found=dataclasses.replace(FOUND, lds_ppm=PPM))
    assert not allows_scores(stated, {cid: chance})
