from __future__ import annotations

import numpy as np
import pytest

from commonlore.protocol.errors import LocalProtocolError
from commonlore.worker.attribution.faithfulness import draw_halves, measure_lds, spearman

ROWS, SUBSETS, QUERIES = 40, 16, 8


def world(noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, membership, and values that the scores predict up to noise."""
    rng = np.random.default_rng(5)
    scores = rng.normal(size=(QUERIES, ROWS))
    members = draw_halves(ROWS, SUBSETS, b"seed")
    exact = members @ scores.T
    return scores, members, exact + noise * exact.std() * rng.normal(size=exact.shape)


def test_scores_that_predict_retraining_are_above_chance() -> None:
    perfect = measure_lds(*world(0.0))
    assert perfect.lds == pytest.approx(1.0)
    assert perfect.low > 0.9
    noisy = measure_lds(*world(1.0))
    assert 0.4 < noisy.lds < 0.95
    assert noisy.low < noisy.lds < noisy.high
    assert perfect.above_chance
    assert noisy.above_chance
    assert abs(noisy.null_mean) < 0.2 < noisy.null_high + 0.2
    assert (noisy.subsets, noisy.queries) == (SUBSETS, QUERIES)


def test_scores_that_know_nothing_are_not() -> None:
    _, members, values = world(0.0)
    ignorant = np.random.default_rng(9).normal(size=(QUERIES, ROWS))
    report = measure_lds(ignorant, members, values)
    assert not report.above_chance
    assert not measure_lds(-world(0.0)[0], members, values).above_chance
    assert not measure_lds(np.zeros((QUERIES, ROWS)), members, values).above_chance


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
    scores, members, values = world(0.0)
    for broken in (
        (scores[:, 1:], members, values),
        (scores, members[:3], values[:3]),
        (scores[:, :3], members[:, :3], values),
        (scores, members, values * np.nan),
        (scores[:0], members, values[:, :0]),
    ):
        with pytest.raises(LocalProtocolError):
            measure_lds(*broken)
