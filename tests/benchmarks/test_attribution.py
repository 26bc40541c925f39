"""The arithmetic by which attribution methods are judged, on cases whose answers are known."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def influence(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The folder's modules without torch; `benchmarks` is a folder of the repository, not of the package."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.influence import attacks, families, measures, order, pools, sorting, texts

    return SimpleNamespace(
        attacks=attacks,
        families=families,
        measures=measures,
        order=order,
        pools=pools,
        sorting=sorting,
        texts=texts,
    )


def test_ranks_share_the_mean_where_values_are_equal(influence: SimpleNamespace) -> None:
    assert influence.measures.ranks(np.array([[3.0], [1.0], [3.0], [2.0]]))[:, 0].tolist() == [2.5, 0, 2.5, 1]


def test_an_additive_world_is_foretold_perfectly(influence: SimpleNamespace) -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(5, 12))
    members = rng.random((20, 12)) < 0.5
    values = members @ scores.T
    per_question, left_out = influence.measures.lds(scores, members, values)
    assert per_question == pytest.approx(1.0)
    assert influence.measures.standard_error(per_question, left_out) == pytest.approx(0.0, abs=1e-9)
    assert influence.measures.lds(-scores, members, values)[0] == pytest.approx(-1.0)


def test_shapley_values_of_a_glove_market(influence: SimpleNamespace) -> None:
    # players 0 and 1 hold left gloves, player 2 the only right one; a pair is worth 1
    worth = [float(bool(code & 0b011) and bool(code & 0b100)) for code in range(8)]
    values = influence.measures.shapley_values(np.array(worth)[:, None])
    assert values[0] == pytest.approx([1 / 6, 1 / 6, 4 / 6])


def test_a_method_that_knows_shapley_values_pays_without_error(influence: SimpleNamespace) -> None:
    measures = influence.measures
    owner = np.array([0, 0, 1, 2])
    scores = np.array([[0.5, 0.5, 2.0, -1.0], [0.0, 3.0, 0.0, 1.0]])
    truth = measures.Truth(np.eye(4, dtype=bool), scores.T, measures.sum_by_owner(scores, owner, 3)[None])
    found = measures.assess(scores, owner, truth)
    assert found.pay_error == pytest.approx(0.0)
    assert found.pearson == pytest.approx(1.0)


def test_shares_are_clipped_after_summing(influence: SimpleNamespace) -> None:
    paid = influence.measures.shares(np.array([[3.0, -1.0, 1.0], [-1.0, -2.0, 0.0]]))
    assert paid[0].tolist() == [0.75, 0, 0.25]
    assert paid[1] == pytest.approx(1 / 3)
    assert influence.measures.total_variation(paid[:1], np.array([[0.5, 0.5, 0.0]]))[0] == 0.5


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([1, 2, 3, 4], 1.0), ([4, 3, 2, 1], 0.0), ([1, 1, 1, 1], 0.5), ([1, 3, 2, 4], 0.75)],
)
def test_auc(influence: SimpleNamespace, scores: list[int], expected: float) -> None:
    assert influence.measures.auc(np.array(scores), np.array([False, False, True, True])) == expected


def test_a_kind_comes_first_by_the_sum_of_its_rows(influence: SimpleNamespace) -> None:
    """The largest row is not of the kind with the largest sum."""
    scores = np.array([[2.0, 2.0, 3.0, -1.0], [0.0, 1.0, 0.5, 1.0]])
    assert influence.measures.first(scores, ["a", "a", "b", "b"], ["a", "b"]) == 1.0
    assert influence.measures.first(scores, ["a", "a", "b", "b"], ["b", "b"]) == 0.5


def test_an_attacks_damage_counts_a_split_name_once(influence: SimpleNamespace) -> None:
    before = {"a": 0.5, "b": 0.5}
    found = influence.attacks.damage(before, {"a/0": 0.2, "a/1": 0.2, "b": 0.5, "attacker": 0.1})
    assert found.honest_change == pytest.approx(0.2)
    assert found.honest_loss == pytest.approx(0.2)
    assert found.attacker_share == pytest.approx(0.1)


def test_attacks_leave_honest_entries_in_their_order(influence: SimpleNamespace) -> None:
    entry = influence.texts.Entry
    honest = tuple(entry(name, f"{name} row {i} says one two three") for name in "abcdef" for i in range(4))
    found = {each.name: each for each in influence.attacks.attacks(honest, 1, lambda rng: str(rng.random()))}
    assert set(found) == {
        *("copy", "near-copy", "joined", "joined-between", "joined-reversed", "near-joined-between"),
        *("decoy", "reworded", "garbage", "garbage-by-many", "salad", "split"),
    }
    for attack in found.values():
        honest_name, attacker = influence.attacks.honest_name, influence.attacks.ATTACKER
        kept = [each for each in attack.entries if honest_name(each.contributor) != attacker]
        assert [each.text for each in kept] == [each.text for each in attack.honest], attack.name
        assert sorted(each.text for each in attack.honest) == sorted(each.text for each in honest)
    bad = [each.text for each in found["decoy"].entries if each.contributor == influence.attacks.ATTACKER]
    victim = [each.text for each in honest if each.contributor == influence.attacks.victims(honest, 1)[0]]
    assert [sorted(text.split()) for text in bad] == [sorted(text.split()) for text in victim]
    bad = [e.text for e in found["reworded"].entries if e.contributor == influence.attacks.ATTACKER]
    for text, original in zip(bad, victim, strict=True):
        words, before = text.split(), original.split()
        same = sum(a == b for a, b in zip(words, before, strict=True))
        assert len(words) - round(0.4 * len(words)) <= same < len(words)


def test_sorting_rows_pays_where_bad_ones_are_left_behind(influence: SimpleNamespace) -> None:
    """The one has a row that helps and one that harms, each for every question; the other's help evenly."""
    scores = np.array([[4.0, -2.0, 1.0, 1.0]] * 4)
    owner = np.array([0, 0, 1, 1])
    assert influence.sorting.sort_rows(scores, owner, 0).tolist() == [0, 2, 1, 1]

    def by_account(asked: np.ndarray, owner: np.ndarray, owners: int) -> np.ndarray:
        measures = influence.measures
        return measures.shares(measures.sum_by_owner(scores[asked], owner, owners))

    def by_row(asked: np.ndarray, owner: np.ndarray, owners: int) -> np.ndarray:
        measures = influence.measures
        return measures.shares(measures.sum_by_owner(np.clip(scores[asked], 0, None), owner, owners))

    found = influence.sorting.measure_sorting(scores, owner, by_account)
    assert found["attacker_share"] == pytest.approx((4 / 6) / (2 / 4) - 1)
    assert found["honest_change"] == found["honest_loss"] == pytest.approx(1 - (2 / 6) / (2 / 4))
    assert list(influence.sorting.measure_sorting(scores, owner, by_row).values()) == pytest.approx([0, 0, 0])


def test_of_draws_the_mean_decides_who_gains_most(influence: SimpleNamespace) -> None:
    """The first gains 4 and 0 per cent by two draws, the second 1 and 5; to each other they do 2 and -2, or
    -1 and -3."""
    draws = [np.array([[0.04, 0.02], [-0.01, 0.01]]), np.array([[0.0, -0.02], [-0.03, 0.05]])]
    found = influence.sorting.over_draws(draws)
    assert [found[name] for name in ("gain", "gain_se", "largest_gain")] == pytest.approx([0.03, 0.02, 0.05])
    told = [found[name] for name in ("change", "change_se", "largest_change")]
    assert told == pytest.approx([0.02, 0.01, 0.03])


def test_a_pool_that_is_drawn_whole_has_no_error(influence: SimpleNamespace) -> None:
    paid = np.random.default_rng(1).dirichlet(np.ones(4), 30)
    error = influence.pools.sampling_error
    assert error(paid, 200, 200, 1)[0] == pytest.approx(0.0)
    few, many = error(paid, 200, 5, 1)[0], error(paid, 200, 80, 1)[0]
    assert few > 2 * many > 0


def test_what_is_drawn_stays_within_the_fraction(influence: SimpleNamespace) -> None:
    drawn = influence.pools.affordable(1_000, 0.1, 0.6, 0.05)
    assert drawn == 4
    assert influence.pools.cost_fraction(drawn, 1_000, 0.1, 0.6) <= 0.05
    assert influence.pools.cost_fraction(drawn + 1, 1_000, 0.1, 0.6) > 0.05


@pytest.mark.parametrize("family", ["sentences", "math", "math-reason"])
def test_a_family_has_ten_kinds_and_flips_answers_only(influence: SimpleNamespace, family: str) -> None:
    rows, questions = influence.families.draw_family(family, 3, 4, 2)
    assert len({row.kind for row in rows}) == 10
    assert (len(rows), len(questions)) == (40, 20)
    assert not {row.question for row in rows} & {each.question for each in questions}
    wrong, marks = influence.families.flip(rows, 3, 0.25)
    assert sum(marks) == 10
    assert [row.question for row in wrong] == [row.question for row in rows]
    assert [a.answer != b.answer for a, b in zip(rows, wrong, strict=True) if a.answer != b.answer]
    assert all(a == b for a, b, mark in zip(rows, wrong, marks, strict=True) if not mark)


def test_texts_of_a_seed_are_the_same_again(influence: SimpleNamespace) -> None:
    draw = influence.texts.SOURCES["supply"]
    assert draw(random.Random("x"), 9) == draw(random.Random("x"), 9)
    assert len(set(draw(random.Random("y"), 40))) == 40


def test_averages_of_equal_estimates_do_not_wobble(influence: SimpleNamespace) -> None:
    measures = influence.measures
    sums = np.abs(np.random.default_rng(2).normal(size=(6, 3))) + 0.1
    truth = measures.Truth(np.eye(2, dtype=bool), np.zeros((2, 6)), sums[None])
    found = influence.order.averaged([{1: sums, 2: sums}] * 4, truth, 1, 2)
    assert set(found) == {"one checkpoint", "two checkpoints", "two trainings", "both"}
    for each in found.values():
        assert each.pay_change == pytest.approx(0.0)
        assert each.pay_error == pytest.approx(0.0)
