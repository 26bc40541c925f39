"""The pinned sampler against its vectors, published Philox answers, and a naive reading of the same rules."""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import LocalProtocolError
from commonlore.protocol.inference.sampler import compute_scores, gumbel, key_of, philox, sample
from commonlore.protocol.requests.records import Sampling

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "sampler.json").read_text())

# Salmon et al., Random123: kat_vectors, philox4x32 with 10 rounds
PUBLISHED = [
    ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def words_of(counter, key) -> list[int]:
    return [int(word[0]) for word in philox(tuple(np.array([word], np.uint32) for word in counter), key)]


def naive_sample(logits, sampling: Sampling, position: int, history) -> int:
    """The rules once more, with Python's numbers and lists only."""
    values = [float(np.float32(logit)) for logit in logits]
    penalty = sampling.repetition_penalty_ppm / PPM
    for token in set(history):
        values[token] = values[token] / penalty if values[token] > 0 else values[token] * penalty
    if sampling.temperature_ppm == 0:
        return min(range(len(values)), key=lambda token: (-values[token], token))
    values = [value / (sampling.temperature_ppm / PPM) for value in values]
    ranked = sorted(
        (token for token in range(len(values)) if values[token] > -math.inf), key=lambda t: (-values[t], t)
    )
    ranked = ranked[: sampling.top_k or None]
    weights = {token: math.exp(values[token] - values[ranked[0]]) for token in ranked}
    if sampling.top_p_ppm < PPM:
        ranked = shortest_prefix(ranked, weights, sampling.top_p_ppm / PPM)
    kept = [token for token in ranked if weights[token] >= sampling.min_p_ppm / PPM]
    return min(kept, key=lambda t: (-values[t] - naive_gumbel(sampling.seed, position, t), t))


def shortest_prefix(ranked, weights, top_p: float) -> list[int]:
    target, reached = top_p * np.cumsum(list(weights.values()))[-1], 0.0
    for count, token in enumerate(ranked, 1):
        reached += weights[token]
        if reached >= target:
            return ranked[:count]
    return ranked


def naive_gumbel(seed: int, position: int, token: int) -> float:
    uniform = (words_of((position, token, 0, 0), key_of(seed))[0] + 0.5) / 2**32
    return -math.log(-math.log(uniform))


@pytest.mark.parametrize(("counter", "key", "words"), PUBLISHED)
def test_philox_gives_the_published_answers(counter, key, words):
    assert words_of(counter, key) == [int(word, 16) for word in words.split()]


@pytest.mark.parametrize("case", VECTORS["philox"])
def test_philox_vectors(case):
    assert words_of(case["counter"], tuple(case["key"])) == case["words"]


@pytest.mark.parametrize("case", VECTORS["noise"])
def test_noise_vectors(case):
    seed, expected = int(case["seed"]), float.fromhex(case["gumbel"])
    assert list(key_of(seed)) == case["key"]
    assert words_of((case["position"], case["token"], 0, 0), key_of(seed))[0] == case["word"]
    noise = gumbel(seed, case["position"], np.array([case["token"]]))[0]
    assert abs(noise - expected) <= 4 * math.ulp(expected)


@pytest.mark.parametrize("case", VECTORS["choices"])
def test_choice_vectors(case):
    sampling = Sampling(**case["sampling"])
    scores = compute_scores(case["logits"], sampling, case["position"], case["history"])
    assert scores.ids.tolist() == case["survivors"]
    assert sample(case["logits"], sampling, case["position"], case["history"]) == case["token"]
    assert naive_sample(case["logits"], sampling, case["position"], case["history"]) == case["token"]


@given(
    st.lists(st.floats(-30, 30, width=32) | st.just(-math.inf), min_size=1, max_size=30),
    st.builds(
        Sampling,
        seed=st.integers(0, 2**64 - 1),
        max_tokens=st.just(1),
        temperature_ppm=st.sampled_from([0, 1, 300_000, PPM, 5 * PPM]),
        top_k=st.integers(0, 40),
        top_p_ppm=st.integers(1, PPM),
        min_p_ppm=st.integers(0, PPM),
        repetition_penalty_ppm=st.integers(500_000, 2 * PPM),
    ),
    st.integers(0, 2**32 - 1),
    st.data(),
)
def test_the_reference_reads_as_the_rules_do(logits, sampling, position, data):
    if max(logits) == -math.inf:
        return
    history = data.draw(st.lists(st.integers(0, len(logits) - 1), max_size=5))
    assert sample(logits, sampling, position, history) == naive_sample(logits, sampling, position, history)


def test_noise_is_addressable_token_by_token():
    everything = gumbel(9, 4, np.arange(1000))
    assert everything[77] == gumbel(9, 4, np.array([77]))[0]
    assert -3.14 < everything.min() < everything.max() < 22.88


def test_draws_follow_the_softmax():
    logits, draws = [0.0, 1.0, 2.0, -1.0], 4000
    sampling = Sampling(seed=1, max_tokens=1, temperature_ppm=PPM)
    counts = Counter(sample(logits, sampling, position, []) for position in range(draws))
    weights = np.exp(logits) / np.exp(logits).sum()
    for token, weight in enumerate(weights):
        assert abs(counts[token] - draws * weight) < 4 * math.sqrt(draws * weight * (1 - weight))


def test_another_seed_or_position_draws_other_noise():
    ids = np.arange(64)
    assert not np.array_equal(gumbel(1, 0, ids), gumbel(2, 0, ids))
    assert not np.array_equal(gumbel(1, 0, ids), gumbel(1, 1, ids))


@pytest.mark.parametrize(
    ("logits", "position", "history", "words"),
    [
        ([math.nan, 1.0], 0, [], "logits"),
        ([math.inf, 1.0], 0, [], "logits"),
        ([-math.inf], 0, [], "logits"),
        ([], 0, [], "logits"),
        ([[1.0]], 0, [], "logits"),
        ([1.0], -1, [], "position"),
        ([1.0], 2**32, [], "position"),
        ([1.0], 0, [1], "history"),
        ([1.0], 0, [-1], "history"),
    ],
)
def test_what_cannot_be_sampled_is_refused(logits, position, history, words):
    with pytest.raises(LocalProtocolError, match=words):
        sample(logits, Sampling(seed=1, max_tokens=1), position, history)
