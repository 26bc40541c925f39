"""How well scores foretell retraining: pure arithmetic on arrays.

Shapes: scores (questions, rows); members (subsets, rows) of 0 and 1; values (subsets, questions), minus the
nats a token of a model that was trained on the subset.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """`members` and `values` of the half-subsets; `by_order` (orders, questions, contributors) exact Shapley
    values, each from trainings of its own in another order of batches.
    """

    members: npt.NDArray[np.bool_]
    values: Floats
    by_order: Floats

    @property
    def shapley(self) -> Floats:
        """(questions, contributors): of the mean over orders, because Shapley values are linear."""
        mean: Floats = self.by_order.mean(0)
        return mean

    def message(self) -> dict[str, float]:
        """How well pay is known: `between_orders` is the pay error of one order's Shapley values held against
        another's, `all_to_the_first` that of giving everything to whoever has most by the Shapley values.
        """
        paid = [shares(each) for each in self.by_order]
        apart = [total_variation(a, b).mean() for a, b in combinations(paid, 2)]
        wanted = shares(self.shapley)
        first = np.eye(wanted.shape[1])[wanted.argmax(1)]
        known = {"between_orders": float(np.mean(apart))} if apart else {}
        return known | {
            "orders": len(self.by_order),
            "all_to_the_first": float(total_variation(first, wanted).mean()),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Faithfulness:
    """What one method reached on one world. `lds`, `pearson`, `pay_error` have a value a question.

    `pay_error` is against the Shapley values of the mean over orders, `pay_error_one_order` the mean of those
    against each order's own. `pooled` is the pay error of all questions' pay together.
    """

    lds: Floats
    left_out: Floats
    """The mean LDS without each subset in turn."""
    pearson: Floats
    pay_error: Floats
    pay_error_one_order: Floats
    pooled: float

    def message(self) -> dict[str, float]:
        """The means, and the LDS's standard error within the world."""
        return {
            "lds": float(self.lds.mean()),
            "lds_se_within": standard_error(self.lds, self.left_out),
            "shapley_pearson": float(self.pearson.mean()),
            "pay_error": float(self.pay_error.mean()),
            "pay_error_one_order": float(self.pay_error_one_order.mean()),
            "pool_pay_error": self.pooled,
        }


def assess(
    scores: Floats, owner: npt.NDArray[np.int64], truth: Truth, paid: Floats | None = None
) -> Faithfulness:
    """A method's scores against retraining; `paid` are the shares, where scores alone do not say them."""
    per_question, left_out = lds(scores, truth.members, truth.values)
    sums = sum_by_owner(scores, owner, truth.shapley.shape[1])
    paid, wanted = shares(sums) if paid is None else paid, shares(truth.shapley)
    return Faithfulness(
        per_question,
        left_out,
        pearson_rows(sums, truth.shapley),
        total_variation(paid, wanted),
        np.mean([total_variation(paid, shares(each)) for each in truth.by_order], axis=0),
        float(total_variation(paid.mean(0, keepdims=True), wanted.mean(0, keepdims=True))[0]),
    )


def ranks(values: Floats) -> Floats:
    """Of each column, from 0; equal values share the mean of their ranks."""
    below = (values[:, None, :] > values[None, :, :]).sum(1)
    equal = (values[:, None, :] == values[None, :, :]).sum(1)
    return below + (equal - 1) / 2


def spearman(a: Floats, b: Floats) -> Floats:
    """Rank correlation column by column; 0 where a column is constant."""
    return pearson_rows(ranks(a).T, ranks(b).T)


def pearson_rows(a: Floats, b: Floats) -> Floats:
    """Correlation row by row; 0 where a row is constant."""
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    lengths = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.divide((a * b).sum(1), lengths, out=np.zeros(len(a)), where=lengths > 0)


def lds(scores: Floats, members: npt.NDArray[np.bool_], values: Floats) -> tuple[Floats, Floats]:
    """The linear datamodelling score of each question (Park et al., "TRAK", 2023), and its mean without each
    subset in turn."""
    foretold = members.astype(np.float64) @ scores.T
    subsets = np.arange(len(members))
    without = [spearman(foretold[subsets != k], values[subsets != k]).mean() for k in subsets]
    return spearman(foretold, values), np.array(without)


def standard_error(per_question: Floats, left_out: Floats) -> float:
    """Of a mean LDS within one world: questions and subsets are both samples, so their variances add."""
    n = len(left_out)
    of_subsets = (n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()
    return float(np.sqrt(per_question.var(ddof=1) / len(per_question) + of_subsets))


def across(values: list[float]) -> tuple[float, float | None]:
    """Mean over seeds and its standard error; None of a single seed."""
    if len(values) < 2:
        return float(np.mean(values)), None
    return float(np.mean(values)), float(np.std(values, ddof=1) / len(values) ** 0.5)


def shapley_values(value: Floats) -> Floats:
    """Exact Shapley values (questions, players) from a value for each subset of players, (2^players,
    questions), subsets numbered by their bits."""
    players = len(value).bit_length() - 1
    result = np.zeros((value.shape[1], players))
    for player in range(players):
        for code in range(len(value)):
            if not code >> player & 1:
                weight = players * math.comb(players - 1, code.bit_count())
                result[:, player] += (value[code | 1 << player] - value[code]) / weight
    return result


def sum_by_owner(scores: Floats, owner: npt.NDArray[np.int64], owners: int) -> Floats:
    """(questions, owners)."""
    return np.stack([scores[:, owner == each].sum(1) for each in range(owners)], axis=1)


def shares(weights: Floats) -> Floats:
    """What each is paid of a question: clipped at zero after summing; alike where nobody has more."""
    clipped = np.clip(weights, 0, None)
    total = clipped.sum(1, keepdims=True)
    return np.where(total > 0, clipped / np.where(total > 0, total, 1), 1 / weights.shape[1])


def total_variation(a: Floats, b: Floats) -> Floats:
    """Half the absolute differences of shares, row by row: how much pay is in the wrong hands."""
    return 0.5 * np.abs(a - b).sum(1)


def auc(scores: Floats, positive: npt.NDArray[np.bool_]) -> float:
    """The chance that a positive scores above a negative; ties count half. NaN without either."""
    if positive.all() or not positive.any():
        return math.nan
    ranked = ranks(np.asarray(scores, np.float64)[:, None])[:, 0]
    count = int(positive.sum())
    above = ranked[positive].sum() - count * (count - 1) / 2
    return float(above / (count * (len(positive) - count)))


def first(scores: Floats, rows: Sequence[str], questions: Sequence[str]) -> float:
    """How often the rows of a question's own kind have the largest sum, as contributors are paid."""
    kinds = sorted(set(rows))
    sums = np.stack([scores[:, [row == kind for row in rows]].sum(1) for kind in kinds], axis=1)
    return float(np.mean([kinds[best] == own for best, own in zip(sums.argmax(1), questions, strict=True)]))
