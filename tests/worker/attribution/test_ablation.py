"""Effects of a prompt's parts, from losses whose causes are planted."""

import numpy as np
import pytest

from commonlore.protocol.errors import AttributionFailed
from commonlore.worker.attribution.ablation import ABLATIONS, LEAVE_ONE_OUT, estimate_effects, plan_ablations


def losses_of(present, truth, noise=0.0):
    rng = np.random.default_rng(1)
    return 20.0 - present @ np.array(truth, float) + noise * rng.standard_normal(len(present))


@pytest.mark.parametrize("parts", [0, 1, 2, LEAVE_ONE_OUT])
def test_few_parts_are_left_out_one_by_one(parts):
    present = plan_ablations(parts, b"answer")
    assert present.shape == (parts + 1, parts)
    assert present[0].all()
    assert (~present).sum() == parts
    truth = [0.25 * (part + 1) for part in range(parts)]
    assert estimate_effects(present, losses_of(present, truth)) == [round(t * 1e6) for t in truth]


@pytest.mark.parametrize("parts", [LEAVE_ONE_OUT + 1, 20, 64])
def test_many_parts_are_told_apart_by_regression(parts):
    present = plan_ablations(parts, b"answer")
    assert present.shape == (ABLATIONS + 1, parts)
    assert 0.4 < present[1:].mean() < 0.6
    truth = [4.0 if part in (1, 7) else 0.0 for part in range(parts)]
    effects = estimate_effects(present, losses_of(present, truth, noise=0.05))
    assert set(np.argsort(effects)[-2:]) == {1, 7}
    if parts < ABLATIONS:  # of more parts than ablations only the order is to be had
        assert min(effects[1], effects[7]) > 2 * sorted(effects)[-3]


def test_which_halves_follows_from_the_answer():
    assert (plan_ablations(20, b"answer") == plan_ablations(20, b"answer")).all()
    assert (plan_ablations(20, b"answer") != plan_ablations(20, b"other")).any()


def test_rows_that_say_the_same_share_their_effect():
    present = plan_ablations(12, b"answer")
    either = present[:, 3] | present[:, 9]
    effects = estimate_effects(present, 10.0 - 3.0 * either)
    assert sorted(np.argsort(effects)[-2:]) == [3, 9]
    assert abs(effects[3] - effects[9]) < 0.5 * max(effects)


def test_what_made_the_answer_less_likely_did_nothing():
    present = plan_ablations(2, b"answer")
    assert estimate_effects(present, losses_of(present, [-1.0, 0.5])) == [0, 500_000]


@pytest.mark.parametrize("losses", [[1.0, 2.0], [1.0, float("nan"), 2.0], [1.0, float("inf"), 2.0]])
def test_losses_that_are_none_are_an_error(losses):
    with pytest.raises(AttributionFailed):
        estimate_effects(plan_ablations(2, b"answer"), losses)
