from __future__ import annotations

import numpy as np
import pytest

from commonlore.protocol.attribution.faithfulness import from_ppm
from commonlore.protocol.errors import LocalProtocolError
from commonlore.worker.attribution.faithfulness import draw_halves, measure_lds, spearman

ROWS, SUBSETS, QUERIES = 40, 16, 8


def world(noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scores, scores that know nothing, membership, and values that the former predict up to noise."""
    rng = np.random.default_rng(5)
    scores = rng.normal(size=(QUERIES, ROWS))
    members = draw_halves(ROWS, SUBSETS, b"seed")
    exact = members @ scores.T
    worth = exact + noise * exact.std() * rng.normal(size=exact.shape)
    return scores, rng.normal(size=scores.shape), members, worth


def test_scores_that_predict_retraining_are_above_chance() -> None:
    perfect, noisy = measure_lds(*world(0.0)), measure_lds(*world(1.0))
    assert from_ppm(perfect.lds_ppm) == pytest.approx(1.0)
    assert perfect.error_ppm < 50_000
    assert 0.4 < from_ppm(noisy.lds_ppm) < 0.95
    for found in (perfect, noisy):
        assert found.above_chance
        assert abs(from_ppm(found.null_ppm)) < 2 * found.null_error_ppm / 1e6
        assert 0.0 < from_ppm(found.null_high_ppm) < 0.3


def test_scores_that_know_nothing_are_not() -> None:
    scores, ignorant, members, worth = world(0.0)
    assert not measure_lds(ignorant, ignorant, members, worth).above_chance
    assert not measure_lds(-scores, ignorant, members, worth).above_chance
    assert not measure_lds(np.zeros_like(scores), ignorant, members, worth).above_chance
    assert not measure_lds(scores, scores, members, worth).above_chance, "no better than the null adapter"


def test_halves_are_halves_and_of_the_seed() -> None:
    members = draw_halves(ROWS, SUBSETS, b"seed")
    assert set(members.sum(1)) == {ROWS // 2}
    assert (members == draw_halves(ROWS, SUBSETS, b"seed")).all()
    assert len({row.tobytes() for row in members}) == SUBSETS
    assert not (members == draw_halves(ROWS, SUBSETS, b"other")).all()


def test_rank_correlation_takes_ties_and_constants() -> None:
    a = np.array([[1.0, 1.0, 5.0], [2.0, 1.0, 5.0], [3.0, 2.0, 5.0]])
    b = np.array([[10.0, 0.0, 1.0], [20.0, 1.0, 2.0], [15.0, 2.0, 3.0]])
    assert spearman(a, b) == pytest.approx([0.5, 0.8660254, 0.0])


def test_what_cannot_be_measured_is_refused() -> None:
    scores, ignorant, members, worth = world(0.0)
    for broken in (
        (scores[:, 1:], ignorant, members, worth),
        (scores, ignorant[1:], members, worth),
        (scores, ignorant, members[:3], worth[:3]),
        (scores[:, :3], ignorant[:, :3], members[:, :3], worth),
        (scores, ignorant, members, worth * np.nan),
        (scores, ignorant * np.inf, members, worth),
        (scores[:0], ignorant[:0], members, worth[:, :0]),
    ):
        with pytest.raises(LocalProtocolError):
            measure_lds(*broken)
