from __future__ import annotations

import dataclasses

import pytest

from commonlore.protocol.codec import decode, encode
from commonlore.protocol.errors import LocalProtocolError
from commonlore.protocol.faithfulness import Faithfulness, from_ppm, to_ppm
from commonlore.protocol.ids import cid_of

MEASURED = Faithfulness(
    cid_of(b"adapter"), cid_of(b"index"), "m/1", 8, 12, 100, 12, to_ppm(0.6), 200_000, to_ppm(0.3)
)


def test_above_chance_is_the_whole_interval_and_more_than_ignorance_reaches() -> None:
    assert MEASURED.above_chance
    for change in (
        {"error_ppm": 310_000},  # 0.6 - 1.96 · 0.31 < 0
        {"null_high_ppm": to_ppm(0.6)},
        {"lds_ppm": to_ppm(0.0)},
        {"lds_ppm": to_ppm(-1.0)},
    ):
        assert not dataclasses.replace(MEASURED, **change).above_chance
    assert decode(Faithfulness, encode(MEASURED)) == MEASURED


def test_correlations_travel_as_integers() -> None:
    assert [to_ppm(value) for value in (-1.0, 0.0, 0.25, 1.0)] == [0, 1_000_000, 1_250_000, 2_000_000]
    assert from_ppm(to_ppm(-0.4)) == pytest.approx(-0.4)
    for impossible in (1.01, -1.01, float("nan")):
        with pytest.raises(LocalProtocolError, match="no correlation"):
            to_ppm(impossible)
