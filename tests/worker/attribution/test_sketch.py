from __future__ import annotations

import hashlib

import numpy as np
import pytest

from commonlore.protocol.errors import LocalProtocolError
from commonlore.protocol.ids import cid_of
from commonlore.worker.attribution.sketch import (
    HEAVIEST,
    LIGHTEST,
    Sketch,
    agrees,
    quantise,
    sketch_seed,
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


def test_the_seed_is_of_the_adapter_and_the_beacon() -> None:
    adapter = cid_of(b"a")
    assert sketch_seed(adapter) == sketch_seed(adapter, b"")
    assert len({sketch_seed(adapter), sketch_seed(adapter, b"beacon"), sketch_seed(cid_of(b"b"))}) == 3


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
    vector = np.random.default_rng(1).normal(size=4096)
    row = weigh_signs(vector, 4096)
    assert agrees(row, weigh_signs(vector + 0.01 * np.roll(vector, 1), 4096))
    assert agrees(row, (row // 32 * 33).astype(np.int8))
    assert not agrees(row, (row // 32 * 36).astype(np.int8))
    assert not agrees(row, weigh_signs(vector + 0.2 * np.roll(vector, 1), 4096))
    assert not agrees(row, np.roll(row, 1))
    assert not agrees(row, -row)
    assert not agrees(row, np.zeros_like(row))


def test_impossible_widths_and_sizes_are_refused() -> None:
    with pytest.raises(LocalProtocolError, match="power of two"):
        Sketch.draw(SEED, 10, 100)
    with pytest.raises(LocalProtocolError, match="coordinates"):
        Sketch.draw(SEED, 10, 64).project(np.zeros(11, np.float32))
