"""Rows that work against their own kind."""

import numpy as np

from commonlore.worker.attribution.flagging import flag_rows, influences_on_own

WIDTH = 256


def planted(seed=1, rows=40, flipped=(5, 17), strange=(8,)):
    """Two contributors' rows about a thing each; some say the opposite, one is about nothing of theirs."""
    rng = np.random.default_rng(seed)
    about = rng.standard_normal((2, WIDTH))
    owners = [bytes([n % 2]) * 20 for n in range(rows)]
    vectors = np.stack([about[n % 2] + 0.8 * rng.standard_normal(WIDTH) for n in range(rows)])
    vectors[list(flipped)] *= -1
    vectors[list(strange)] = rng.standard_normal(WIDTH)
    return np.clip(np.rint(20 * vectors), -127, 127).astype(np.int8), owners


def test_rows_that_say_the_opposite_are_flagged_and_no_others():
    for seed in range(5):
        vectors, owners = planted(seed)
        assert sorted(flag_rows(influences_on_own(vectors, owners))) == [5, 17]


def test_nobody_is_flagged_where_all_agree_or_there_is_nothing():
    vectors, owners = planted(flipped=(), strange=())
    assert flag_rows(influences_on_own(vectors, owners)) == []
    assert flag_rows([]) == []
    assert flag_rows(influences_on_own(vectors[:1], owners[:1])) == []
    assert flag_rows([0, 0, 0]) == []


def test_influences_are_exact():
    vectors = np.array([[127, -127], [127, 127], [-127, 1]], np.int8)
    found = influences_on_own(vectors, [b"a", b"a", b"b"])
    assert found == [127 * 127 - 127 * 127, 0, 0]
