"""Rows that stand nearer to other people's than to their own kind."""

from functools import partial

import numpy as np
import pytest

from commonlore.worker.attribution.flagging import _digits, flag_rows, margins

WIDTH = 1_024


def planted(seed=1, rows=40, opposite=(5, 17), swapped=(22, 9), strange=(8,)):
    """Two contributors' rows about a thing each; some say the opposite, some what the other's say, one is
    about nothing of theirs."""
    rng = np.random.default_rng(seed)
    about = rng.standard_normal((2, WIDTH))
    owners = [bytes([n % 2]) * 20 for n in range(rows)]
    vectors = np.stack([about[n % 2] + 0.8 * rng.standard_normal(WIDTH) for n in range(rows)])
    vectors[list(opposite)] *= -1
    for n in swapped:
        vectors[n] = about[1 - n % 2] + 0.8 * rng.standard_normal(WIDTH)
    vectors[list(strange)] = rng.standard_normal((len(strange), WIDTH))
    weights = rng.integers(8, 64, rows)
    return (np.where(vectors < 0, -1, 1) * weights[:, None]).astype(np.int8), owners


def test_rows_that_say_something_else_are_flagged_and_no_others():
    for seed in range(5):
        vectors, owners = planted(seed)
        assert sorted(flag_rows(partial(np.array_split, vectors, 3), owners)) == [5, 9, 17, 22]


def test_nobody_is_flagged_where_all_agree_or_there_is_nothing():
    vectors, owners = planted(opposite=(), swapped=(), strange=())
    assert flag_rows(lambda: np.array_split(vectors, 3), owners) == []
    assert flag_rows(lambda: [], []) == []
    assert flag_rows(lambda: [vectors[:3]], owners[:3]) == []
    alone = [owners[0]] * len(owners)
    assert flag_rows(lambda: [vectors[::2]], alone[::2]) == []


def test_a_margin_is_what_it_says():
    vectors = np.array([[1, 1, 1, 1]] * 4 + [[1, 1, 1, -1]] + [[-2, 2, 2, 2]] * 4, np.int8)
    found = margins(lambda: [vectors], [b"a"] * 5 + [b"b"] * 4)
    assert found[0] == pytest.approx((3 * 4 + 2) / 4 / 4 - 2 / 4)
    assert found[4] == pytest.approx(2 / 4 - 0 / 4)
    assert found[8] == pytest.approx(1 - (4 * 2 + 0) / 5 / 4)
    assert not margins(lambda: [vectors[:3]], [b"a"] * 3).any()


def test_margins_of_many_rows_are_exact():
    """Inner products of 516 like rows of 2^15 places lie beyond what float32 counts."""
    rng = np.random.default_rng(4)
    width, same = 1 << 15, 516
    pattern = rng.integers(0, 2, width) * 2 - 1
    other = pattern * np.where(np.arange(width) < 1_001, -1, 1)
    vectors = np.concatenate([np.tile(pattern, (same, 1)), [other] * 4]).astype(np.int8)
    owners = [b"a"] * same + [b"b"] * 4
    found = margins(lambda: np.array_split(vectors, 5), owners)
    like = width - 2 * 1_001
    assert found[0] == (width - like) / width  # to the last bit
    assert found[-1] == (width - like) / width
    mixed = np.array([[5, -70_000, 1 << 20, 0]], np.int32).repeat(1 << 13, 1)
    digits = _digits(mixed)
    assert sum(factor * part.astype(np.int64) for factor, part in digits).tolist() == mixed.tolist()
    assert all(int(np.abs(part).sum(1).max()) <= 1 << 24 for _, part in digits)
