from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from commonlore.protocol.errors import LocalProtocolError
from commonlore.worker.attribution.sketch import (
    HEAVIEST,
    LIGHTEST,
    NEAR,
    Sketch,
    agrees,
    most_other_signs,
    quantise,
    weigh_signs,
)

SEED = bytes(32)


def test_the_projection_is_what_its_seed_says() -> None:
    sketch = Sketch.draw(SEED, 1000, 64)
    draws = np.frombuffer(hashlib.shake_256(b"commonlore/sketch/1" + SEED).digest(4000), "<u4")
    for coordinate in (0, 1, 17, 999):
        unit = np.zeros(1000, np.float32)
        unit[coordinate] = 1.0
        expected = np.zeros(64)
        expected[draws[coordinate] % 64] = -1.0 if draws[coordinate] >> 31 else 1.0
        assert sketch.project(unit).tolist() == expected.tolist()


def test_inner_products_survive_the_projection() -> None:
    rng = np.random.default_rng(7)
    shared = rng.normal(size=20_000)
    a, b, c = (rng.normal(size=20_000) for _ in range(3))
    near, other = (shared + a).astype(np.float32), (shared + b).astype(np.float32)
    sketch = Sketch.draw(SEED, 20_000, 4096)
    x, y, z = (quantise(sketch.project(v)).astype(np.int64) for v in (near, other, c.astype(np.float32)))
    assert 0.4 < x @ y / (x @ x) < 0.6
    assert abs(x @ z / (x @ x)) < 0.1


def test_quantised_vectors_have_one_length_and_no_minus_128() -> None:
    rng = np.random.default_rng(3)
    for scale in (1e-6, 1.0, 1e6):
        vector = quantise(rng.normal(size=1024) * scale).astype(np.int64)
        assert abs((vector @ vector) ** 0.5 - 21 * 1024**0.5) < 2
    spike = np.zeros(1024)
    spike[5] = -1e9
    assert quantise(spike).min() == -127
    assert not quantise(np.zeros(16)).any()
    with pytest.raises(LocalProtocolError, match="not finite"):
        quantise(np.full(16, np.inf))


def test_a_rows_signs_have_one_weight_within_bounds() -> None:
    vector = np.random.default_rng(3).normal(size=1024)
    for scale, weight in ((1.0, 32), (0.5, 16), (1e-9, LIGHTEST), (1e9, HEAVIEST)):
        row = weigh_signs(vector * scale * 1024**0.5 / np.linalg.norm(vector) * 10, 100 * 1024)
        assert row.tolist() == np.where(vector < 0, -weight, weight).tolist()
    assert set(weigh_signs(np.zeros(16), 16).tolist()) == {LIGHTEST}
    with pytest.raises(LocalProtocolError, match="not finite"):
        weigh_signs(np.full(16, np.nan), 16)


def test_signs_keep_who_is_near() -> None:
    rng = np.random.default_rng(7)
    shared, query = rng.normal(size=4096), rng.normal(size=4096)
    near, far = (weigh_signs(part + rng.normal(size=4096), 4096).astype(np.int64) for part in (shared, query))
    asked = quantise(shared).astype(np.int64)
    assert asked @ near > 10 * abs(asked @ far)


def test_rounding_agrees_and_nothing_more_does() -> None:
    rng = np.random.default_rng(1)
    vector = rng.normal(size=32_768)
    row = weigh_signs(vector, 32_768)
    assert agrees(row, vector, 32_768)
    assert agrees(row, vector + 1e-5 * rng.normal(size=32_768), 32_768)
    assert agrees(row, 1.0001 * vector, 32_768)
    assert not agrees(row, 1.05 * vector, 32_768), "another weight"
    assert not agrees(row, vector + 0.01 * rng.normal(size=32_768), 32_768)
    for forged in (np.roll(row, 1), -row, np.zeros_like(row), row // 32 * 33):
        assert not agrees(forged.astype(np.int8), vector, 32_768)
    plain = row.copy()
    plain[np.argmax(np.abs(vector))] *= -1
    assert not agrees(plain, vector, 32_768), "one sign that no machine finds different"
    uneven = row.copy()
    uneven[7] *= 2
    assert not agrees(uneven, vector, 32_768)


def test_a_row_can_lean_towards_a_question_by_less_than_chance_allows() -> None:
    """An author flips the signs that suit it best, as many and as large as nobody can refuse."""
    rng = np.random.default_rng(2)
    for spread in (1.0, 3.0):  # of heavy tails, too: more places near zero
        vector = rng.normal(size=32_768) * np.exp(spread * rng.normal(size=32_768) / 3)
        asked = quantise(rng.normal(size=32_768)).astype(np.int64)
        row = weigh_signs(vector, 32_768).astype(np.int64)
        leant = lean(row, vector, asked)
        assert agrees(leant.astype(np.int8), vector, 32_768)
        gained = (leant - row) @ asked / (np.linalg.norm(row) * np.linalg.norm(asked))
        assert 0 < gained < 2 / 32_768**0.5 / 3
        one_more = leant.copy()
        one_more[np.flatnonzero(leant == row)[np.argmax(np.abs(vector[leant == row]))]] *= -1
        assert not agrees(one_more.astype(np.int8), vector, 32_768)
    # whatever the row and the question: all places that may be flipped where the question is strongest
    assert 2 * most_other_signs(32_768) * 127 / (21 * 32_768) < 2 / 32_768**0.5


def lean(row: npt.NDArray[np.int64], vector: npt.NDArray[np.float64], asked: npt.NDArray[np.int64]) -> Any:
    """The row with every sign turned towards `asked` that may be."""
    near = np.abs(vector) <= NEAR * np.sqrt(np.square(vector).mean())
    against = np.flatnonzero(near & (np.sign(asked) * np.sign(row) < 0))
    best = against[np.argsort(-np.abs(asked[against]), kind="stable")][: most_other_signs(len(row))]
    found = row.copy()
    found[best] *= -1
    return found


def test_impossible_widths_and_sizes_are_refused() -> None:
    with pytest.raises(LocalProtocolError, match="power of two"):
        Sketch.draw(SEED, 10, 100)
    with pytest.raises(LocalProtocolError, match="coordinates"):
        Sketch.draw(SEED, 10, 64).project(np.zeros(11, np.float32))
