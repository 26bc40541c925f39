"""Who asks what, and when: arrays drawn once from the seed, so that every arm of an experiment sees the same
asks.

Sources of the fits: lognormal lengths fitted to the Azure LLM inference traces of 2023 (conversation and
code; Patel et al., Splitwise), arrivals with Gamma gaps as in S-LoRA's benchmark (Sheng et al. 2023), whose
adapter choice is `power`. The code trace arrives in bursts: its gaps have a coefficient of variation of 13;
the conversation's of 1.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from math import gamma

import numpy as np
import numpy.typing as npt

from ..protocol.errors import ConfigError
from .scenario import ChurnModel, Scenario, WorkModel

Ints = npt.NDArray[np.int64]
NO_ADAPTER = -1


class Stream(IntEnum):
    """Independent streams of one seed: changing how one is used leaves the others as they were."""

    ARRIVALS = 0
    LENGTHS = 1
    CHOICES = 2
    PLACES = 3
    SPEEDS = 4
    CHURN = 5
    PEOPLE = 6


@dataclass(frozen=True, slots=True)
class Lengths:
    """Means and deviations of the logarithms of prompt and output tokens."""

    prompt_mu: float
    prompt_sigma: float
    output_mu: float
    output_sigma: float


LENGTHS = {
    "short": Lengths(4.4, 0.6, 3.4, 0.7),
    "azure_conversation": Lengths(6.63, 0.99, 5.02, 0.86),
    "azure_code": Lengths(7.00, 1.36, 2.79, 0.85),
}


@dataclass(frozen=True, slots=True)
class Workload:
    """One entry an ask, in order of arrival. `adapter` is an index or NO_ADAPTER; times are microseconds."""

    arrival_us: list[int]
    prompt_tokens: list[int]
    output_tokens: list[int]
    adapter: list[int]
    payer: list[int]
    gateway: list[int]

    def __len__(self) -> int:
        return len(self.arrival_us)


def generator(seed: int, stream: Stream, part: int = 0) -> np.random.Generator:
    """The random numbers of one stream: Philox, keyed by the seed, counted from a place of its own."""
    return np.random.Generator(
        np.random.Philox(key=seed & ((1 << 128) - 1), counter=[0, 0, part, int(stream)])
    )


def draw_workload(scenario: Scenario, seed: int) -> Workload:
    """The asks of a run."""
    work = scenario.work
    arrivals = draw_arrivals(work, scenario.duration_ms, generator(seed, Stream.ARRIVALS))
    count = len(arrivals)
    lengths = lengths_of(work)
    draw = generator(seed, Stream.LENGTHS)
    prompts = _tokens(draw, lengths.prompt_mu, lengths.prompt_sigma, count, work.max_prompt)
    outputs = _tokens(draw, lengths.output_mu, lengths.output_sigma, count, work.max_output)
    choose = generator(seed, Stream.CHOICES)
    adapters = draw_adapters(work, choose, count)
    adapters[choose.random(count) < work.base_share] = NO_ADAPTER
    payers = choose.integers(0, work.payers, count)
    gateways = payers % scenario.network.gateways
    columns = (arrivals, prompts, outputs, adapters, payers, gateways)
    return Workload(*(column.tolist() for column in columns))


def lengths_of(work: WorkModel) -> Lengths:
    """The named fit with what the scenario sets itself. Raises ConfigError for an unknown name."""
    if work.lengths not in LENGTHS:
        raise ConfigError(f"unknown work.lengths {work.lengths!r}; choose one of: {', '.join(LENGTHS)}")
    named = LENGTHS[work.lengths]
    return Lengths(
        named.prompt_mu if work.prompt_mu is None else work.prompt_mu,
        named.prompt_sigma if work.prompt_sigma is None else work.prompt_sigma,
        named.output_mu if work.output_mu is None else work.output_mu,
        named.output_sigma if work.output_sigma is None else work.output_sigma,
    )


def draw_arrivals(work: WorkModel, duration_ms: int, draw: np.random.Generator) -> Ints:
    """Arrival times in microseconds below the duration: a renewal process with Gamma gaps."""
    shape = 1.0 / work.burstiness**2
    scale = 1e6 / work.rate_per_s / shape
    expected = duration_ms * work.rate_per_s / 1000
    batch = int(expected * 1.2) + 64
    times: Ints = np.zeros(0, np.int64)
    last = 0
    while last < duration_ms * 1000:
        gaps = np.rint(draw.gamma(shape, scale, batch)).astype(np.int64)
        times = np.concatenate([times, last + np.cumsum(gaps)])
        last = int(times[-1])
    within: Ints = times[times < duration_ms * 1000]
    return within


def draw_adapters(work: WorkModel, draw: np.random.Generator, count: int) -> Ints:
    """Adapter indices, the most popular first."""
    if work.adapters == 0:
        return np.full(count, NO_ADAPTER, np.int64)
    uniform = draw.random(count)
    if work.skew == "power":
        ranks: Ints = np.floor(uniform ** (1 / work.exponent) * work.adapters).astype(np.int64)
        return ranks
    weights = np.arange(1, work.adapters + 1, dtype=np.float64) ** -work.exponent
    cumulative = np.cumsum(weights)
    found = np.searchsorted(cumulative, uniform * cumulative[-1], side="right")
    adapters: Ints = np.minimum(found, work.adapters - 1).astype(np.int64)
    return adapters


def draw_lives(churn: ChurnModel, duration_ms: int, seed: int, worker: int) -> list[tuple[int, int]]:
    """(birth, death) times of one worker in microseconds, in order; the last death may lie beyond the
    duration.
    """
    if churn.mean_lifetime_ms == 0:
        return [(0, duration_ms * 1_000_000)]
    draw = generator(seed, Stream.CHURN, worker)
    scale_us = churn.mean_lifetime_ms * 1000 / gamma(1 + 1 / churn.shape)
    lives: list[tuple[int, int]] = []
    born_us = 0
    while born_us < duration_ms * 1000:
        died_us = born_us + max(1, int(draw.weibull(churn.shape) * scale_us))
        lives.append((born_us, died_us))
        born_us = died_us + max(1, int(draw.exponential(churn.mean_absence_ms * 1000)))
    return lives


def spread(draw: np.random.Generator, median: float, sigma: float, count: int) -> list[int]:
    """Whole numbers of at least 1, lognormal about a median."""
    values = np.rint(median * np.exp(sigma * draw.standard_normal(count)))
    return [max(1, int(value)) for value in values]


def _tokens(draw: np.random.Generator, mu: float, sigma: float, count: int, most: int) -> Ints:
    return np.clip(np.rint(draw.lognormal(mu, sigma, count)), 1, most).astype(np.int64)
