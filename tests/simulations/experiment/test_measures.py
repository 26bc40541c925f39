import pytest

from commonlore.simulations.experiment.measures import Interval, interval, jain, percentile_ms, ratio


@pytest.mark.parametrize(("percent", "expected"), [(50, 0.05), (90, 0.09), (99, 0.1), (100, 0.1), (1, 0.01)])
def test_percentiles_are_nearest_rank(percent, expected):
    assert percentile_ms([100, 90, 80, 70, 60, 50, 40, 30, 20, 10], percent) == expected


def test_nothing_is_zero():
    assert percentile_ms([], 50) == ratio(0, 0) == jain([]) == jain([0, 0]) == 0


def test_jain_is_one_for_equals_and_a_share_for_a_monopoly():
    assert jain([5, 5, 5]) == 1
    assert jain([9, 0, 0, 0]) == 0.25


def test_intervals_over_seeds():
    assert interval([3.0]) == Interval(3.0, 3.0, 3.0)
    wide = interval([1.0, 2.0, 3.0])
    assert wide.mean == 2
    assert wide.high - wide.mean == pytest.approx(4.303 / 3**0.5)
    assert interval([1.0, 2.0] * 20).high - 1.5 == pytest.approx(1.96 * 0.506 / 40**0.5, rel=0.01)
