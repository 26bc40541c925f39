"""The fast sampler against its specification: shared vectors, then random trials with ties and filters."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.inference import sampler as reference
from commonlore.protocol.requests.records import Sampling
from commonlore.worker.engine.decoding import noise
from commonlore.worker.engine.decoding.noise import gumbel
from commonlore.worker.engine.decoding.sampler import Draw, choose, compute_logprobs, survivors

VECTORS = json.loads((Path(__file__).parents[3] / "vectors" / "sampler.json").read_text())


@pytest.mark.parametrize("case", VECTORS["choices"], ids=range(len(VECTORS["choices"])))
def test_chooses_what_the_vectors_say(case: dict) -> None:
    logits = np.array([-np.inf if x is None else float(x) for x in case["logits"]], np.float32)
    draw = Draw(Sampling(**case["sampling"]), case["position"], case["history"])
    assert choose(logits[None], [draw]) == [case["token"]]


FILTERS = [
    {},
    {"top_k": 5},
    {"top_k": 400},
    {"top_p_ppm": 900_000},
    {"top_p_ppm": 1},
    {"min_p_ppm": 50_000},
    {"min_p_ppm": PPM},
    {"top_k": 40, "top_p_ppm": 950_000, "min_p_ppm": 20_000},
    {"repetition_penalty_ppm": 1_300_000, "top_k": 40},
]


@pytest.mark.parametrize("fields", FILTERS, ids=str)
@pytest.mark.parametrize("temperature_ppm", [0, 300_000, PPM, 3 * PPM])
def test_chooses_what_the_reference_chooses(fields: dict[str, int], temperature_ppm: int) -> None:
    numbers = np.random.default_rng(11)
    # quarters make ties, which the rules break by id
    logits = (np.round(numbers.normal(0, 3, (12, 512)) * 4) / 4).astype(np.float32)
    draws = [
        Draw(
            Sampling(seed, 64, temperature_ppm, **fields),
            position,
            [int(t) for t in numbers.integers(0, 512, 20)],
        )
        for seed, position in enumerate(numbers.integers(0, 8000, 12).tolist())
    ]
    expected = [
        reference.sample(row, d.sampling, d.position, d.history) for row, d in zip(logits, draws, strict=True)
    ]
    assert choose(logits, draws) == expected


MORE = [
    {"top_k": 4000, "top_p_ppm": 500_000},
    {"top_k": 70_000},
    {"top_p_ppm": 999_999},
    {"min_p_ppm": 1},
    {"min_p_ppm": 999_999},
]


@pytest.mark.parametrize("fields", [*FILTERS, *MORE], ids=str)
@pytest.mark.parametrize("temperature_ppm", [1, 700_000, 2_000_000])
def test_chooses_what_the_reference_chooses_of_a_large_vocabulary(
    fields: dict[str, int], temperature_ppm: int
) -> None:
    row = np.random.default_rng(3).normal(0, 2, 20_003).astype(np.float32)
    row[::9] = row[1::9][: len(row[::9])]
    for position in (0, 4_000_000_000):
        draw = Draw(Sampling(9, 64, temperature_ppm, **fields), position, [5, 6, 7])
        assert choose(row[None], [draw]) == [
            reference.sample(row, draw.sampling, draw.position, draw.history)
        ]


@pytest.mark.parametrize("fields", [*FILTERS[1:8], {"top_k": 4000}, {"top_p_ppm": 999_999}], ids=str)
@pytest.mark.parametrize("spread", [0.02, 2.0, 20.0])
@pytest.mark.parametrize("step", [0.25, 0.0])
def test_the_filters_leave_whom_the_reference_leaves(
    fields: dict[str, int], spread: float, step: float
) -> None:
    """Of flat and steep rows, with ties and without, and with ids that cannot be chosen."""
    scores = np.random.default_rng(5).normal(0, spread, 20_003)
    scores = np.round(scores / step) * step if step else scores
    scores[::7] = -np.inf
    sampling = Sampling(1, 1, PPM, **fields)
    assert survivors(scores, sampling).tolist() == sorted(reference.keep(scores, sampling).tolist())


def test_a_share_that_ends_on_a_boundary_ends_where_the_reference_ends() -> None:
    """Equal weights: sums in another order would decide otherwise."""
    for count in (10, 3000):
        scores = np.full(count, -1.7)
        for share in range(PPM // 10, PPM, PPM // 10):
            sampling = Sampling(1, 1, PPM, top_p_ppm=share)
            assert survivors(scores, sampling).tolist() == sorted(reference.keep(scores, sampling).tolist())


@pytest.mark.parametrize("count", [1, 255, 257, 4099])
def test_compiled_noise_is_the_references(count: int) -> None:
    numbers = np.random.default_rng(count)
    ids = np.sort(numbers.integers(0, 1 << 32, count))
    for seed, position in ((0, 0), (1, 7), (2**64 - 1, 2**32 - 1)):
        assert np.array_equal(gumbel(seed, position, ids), reference.gumbel(seed, position, ids))


def test_without_a_compiler_noise_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    ids, expected = np.arange(1000), reference.gumbel(3, 5, np.arange(1000))
    monkeypatch.setattr(noise, "load_noise", lambda: None)
    assert np.array_equal(gumbel(3, 5, ids), expected)


def test_logprobs_are_those_of_the_softmax() -> None:
    logits = np.array([1.0, 3.0, 2.0, 3.0], np.float32)
    found = compute_logprobs(logits, 2, 3)
    expected = -np.log(np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum()) * 1e6
    assert (found.chosen.token, found.chosen.micro_nats) == (2, round(expected[2]))
    assert [(one.token, one.micro_nats) for one in found.top] == [
        (1, round(expected[1])),
        (3, round(expected[3])),
        (2, round(expected[2])),
    ]
