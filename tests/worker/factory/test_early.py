from __future__ import annotations

import pytest
import torch

from commonlore.worker.factory.early import EarlyMean
from commonlore.worker.factory.job import TrainConfig


def values(step: int) -> dict[str, torch.Tensor]:
    return {"a": torch.tensor([float(step)]), "b": torch.tensor([[1.0, -2.0 * step]], dtype=torch.bfloat16)}


def test_the_mean_is_of_the_steps_that_count_and_complete_after_the_last() -> None:
    early = EarlyMean(range(3, 6))
    found = [early.add(step, values(step)) for step in range(1, 9)]
    assert [mean is not None for mean in found] == [step == 5 for step in range(1, 9)]
    assert found[4] is not None
    assert found[4]["a"].tolist() == [4.0]
    assert found[4]["b"].tolist() == [[1.0, -8.0]]


def test_what_was_summed_does_not_follow_the_parameters() -> None:
    early, parameter = EarlyMean(range(1, 3)), torch.tensor([1.0])
    early.add(1, {"a": parameter})
    parameter.fill_(9.0)
    mean = early.add(2, {"a": parameter})
    assert mean is not None
    assert mean["a"].tolist() == [5.0]


def test_a_mean_goes_on_from_its_sums() -> None:
    whole, first = EarlyMean(range(1, 4)), EarlyMean(range(1, 4))
    for step in (1, 2):
        whole.add(step, values(step))
        first.add(step, values(step))
    second = EarlyMean(range(1, 4), first.sums)
    mean, again = whole.add(3, values(3)), second.add(3, values(3))
    assert mean is not None
    assert again is not None
    assert all(torch.equal(mean[name], again[name]) for name in mean)


@pytest.mark.parametrize(
    ("steps", "rows", "expected"),
    [
        (96, 240, range(22, 25)),
        (40, 36, range(3, 6)),  # 36 rows are four steps and a half: the fifth begins the second epoch
        (40, 1_000, range(11, 14)),
        (40, 8, range(1, 2)),  # an epoch of one step
        (40, 16, range(1, 3)),
        (1, 1, range(1, 2)),
        (2, 100, range(1, 2)),
        (3, 100, range(1, 2)),
        (6, 100, range(1, 3)),
    ],
)
def test_early_are_the_last_steps_of_the_first_epoch(steps: int, rows: int, expected: range) -> None:
    size = 10 if rows == 240 else 8
    assert TrainConfig(steps=steps, batch_size=size).early_steps(rows) == expected
