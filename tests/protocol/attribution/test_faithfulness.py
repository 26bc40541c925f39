from __future__ import annotations

import dataclasses

import pytest

from commonlore.protocol.attribution.faithfulness import Correlations, Faithfulness, from_ppm, to_ppm
from commonlore.protocol.encoding.codec import decode, encode
from commonlore.protocol.errors import LocalProtocolError
from commonlore.protocol.ids import cid_of

FOUND = Correlations(to_ppm(0.6), 200_000, to_ppm(0.3), to_ppm(0.0), 150_000)
MEASURED = Faithfulness(cid_of(b"adapter"), cid_of(b"index"), "m/1", 8, 12, 100, 12, 4, FOUND)


def test_above_chance_is_the_whole_interval_and_more_than_ignorance_reaches() -> None:
    assert MEASURED.above_chance
    for change in (
        {"error_ppm": 310_000},  # 0.6 - 1.96 · 0.31 < 0
        {"null_high_ppm": to_ppm(0.6)},
        {"null_ppm": to_ppm(0.15)},  # 0.45 apart, and 1.96 · sqrt(0.2² + 0.15²) = 0.49
        {"null_ppm": to_ppm(0.7), "null_error_ppm": 0},
        {"null_error_ppm": 250_000},
        {"lds_ppm": to_ppm(0.0)},
        {"lds_ppm": to_ppm(-1.0)},
    ):
        assert not dataclasses.replace(FOUND, **change).above_chance, change
    assert decode(Faithfulness, encode(MEASURED)) == MEASURED


def test_correlations_travel_as_integers() -> None:
    assert [to_ppm(value) for value in (-1.0, 0.0, 0.25, 1.0)] == [0, 1_000_000, 1_250_000, 2_000_000]
    assert from_ppm(to_ppm(-0.4)) == pytest.approx(-0.4)
    for impossible in (1.01, -1.01, float("nan")):
        with pytest.raises(LocalProtocolError, match="no correlation"):
            to_ppm(impossible)
