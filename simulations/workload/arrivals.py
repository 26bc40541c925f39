"""Who asks what, and when: arrays drawn once from the seed, so that every arm of an experiment sees the same
asks.

Sources of the fits: lognormal lengths fitted to the Azure LLM inference traces of 2023 (conversation and
code; Patel et al., Splitwise) and to the conversation trace of Mooncake (Qin et al., FAST 2025: its prompts'
median and 95th percentile, 6,909 and 39,500 tokens, and its answers' median of 350, spread as in Azure's
conversations); arrivals with Gamma gaps as in S-LoRA's benchmark (Sheng et al. 2023), whose adapter choice is
`power`. The code trace arrives in bursts: its gaps have a coefficient of variation of 13; the conversation's
of 1.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from math import gamma

import numpy as np
import numpy.typing as npt

from ..experiment.models import AdapterModel, ChurnModel, Scenario, WorkModel
from ..experiment.tables import WrongKey
from .traces import read_trace

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
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
    ENTROPY = 7
    RANKS = 8


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
    "mooncake": Lengths(8.84, 1.06, 5.86, 0.86),
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
    draw = generator(seed, Stream.LENGTHS)
    if work.trace:
        arrivals, prompts, outputs = _traced(work, scenario.duration_ms - work.start_ms)
    else:
        asking_ms = scenario.duration_ms - work.start_ms
        arrivals = draw_arrivals(work, asking_ms, generator(seed, Stream.ARRIVALS))
        lengths, count = lengths_of(work), len(arrivals)
        prompts = _tokens(draw, lengths.prompt_mu, lengths.prompt_sigma, count, work.max_prompt)
        outputs = _tokens(draw, lengths.output_mu, lengths.output_sigma, count, work.max_output)
    choose, count = generator(seed, Stream.CHOICES), len(arrivals)
    adapters = draw_adapters(scenario.adapters, choose, count)
    adapters[choose.random(count) < scenario.adapters.base_share] = NO_ADAPTER
    payers = choose.integers(0, work.payers, count)
    gateways = payers % scenario.network.gateways
    columns = (arrivals + work.start_ms * 1000, prompts, outputs, adapters, payers, gateways)
    return Workload(*(column.tolist() for column in columns))


def _traced(work: WorkModel, duration_ms: int) -> tuple[Ints, Ints, Ints]:
    """Arrivals and lengths as they were recorded, within the duration."""
    trace = read_trace(work.trace)
    arrivals = np.floor(trace.arrival_us / work.trace_speedup).astype(np.int64)
    within = arrivals < duration_ms * 1000
    prompts = np.clip(trace.prompt_tokens[within], 1, work.max_prompt)
    return arrivals[within], prompts, np.clip(trace.output_tokens[within], 1, work.max_output)


def lengths_of(work: WorkModel) -> Lengths:
    """The named fit with what the scenario sets itself."""
    named = LENGTHS[work.lengths]
    return Lengths(
        named.prompt_mu if work.prompt_mu is None else work.prompt_mu,
        named.prompt_sigma if work.prompt_sigma is None else work.prompt_sigma,
        named.output_mu if work.output_mu is None else work.output_mu,
        named.output_sigma if work.output_sigma is None else work.output_sigma,
    )


def check_lengths(work: WorkModel) -> None:
    """Raises WrongKey for an unknown name."""
    if work.lengths not in LENGTHS:
        known = ", ".join(LENGTHS)
        raise WrongKey("work.lengths", f"unknown work.lengths {work.lengths!r}; choose one of: {known}")


def draw_arrivals(work: WorkModel, duration_ms: int, draw: np.random.Generator) -> Ints:
    """Arrival times in microseconds below the duration: a renewal process in a time of its own, in which the
    rate is always `rate_per_s`, stretched where the real rate is low."""
    end_us = duration_ms * 1000
    clock = _rate_clock(work, end_us, draw)
    owned = _renewals(work, float(clock[1][-1]), draw)
    times = np.floor(np.interp(owned, clock[1], clock[0])).astype(np.int64)
    within: Ints = times[times < end_us]
    return within


def _renewals(work: WorkModel, end_us: float, draw: np.random.Generator) -> Floats:
    """Times below the end, with Gamma gaps."""
    burstiness = work.burstiness if work.arrivals == "gamma" else 1.0
    shape = 1.0 / burstiness**2
    scale = 1e6 / work.rate_per_s / shape
    batch = int(end_us / 1e6 * work.rate_per_s * 1.2) + 64
    times = np.cumsum(draw.gamma(shape, scale, batch))
    while times[-1] < end_us:
        times = np.concatenate([times, times[-1] + np.cumsum(draw.gamma(shape, scale, batch))])
    within: Floats = times[times < end_us]
    return within


def _rate_clock(work: WorkModel, end_us: int, draw: np.random.Generator) -> tuple[Floats, Floats]:
    """Real times, and how far the process's own time is by then: ∫ rate / rate_per_s."""
    real = np.array([0.0, float(end_us)])
    factors = np.ones(1)
    if work.arrivals == "bursts":
        real, factors = _bursts(work, end_us, draw)
    if work.diurnal:
        steps = np.linspace(0, end_us, 2 + int(288 * end_us / (work.day_ms * 1000)))
        both = np.union1d(real, steps)
        middles = (both[:-1] + both[1:]) / 2
        factors = factors[np.searchsorted(real, middles, side="right") - 1]
        factors = factors * (1 - work.diurnal * np.cos(2 * np.pi * middles / (work.day_ms * 1000)))
        real = both
    return real, np.concatenate([[0.0], np.cumsum(np.diff(real) * factors)])


def _bursts(work: WorkModel, end_us: int, draw: np.random.Generator) -> tuple[Floats, Floats]:
    """Calm and burst in turn, exponentially long: the edges, and each stretch's rate by the mean rate."""
    pairs = int(end_us / (work.burst_ms * 10_000)) * 2 + 16
    lengths = draw.exponential(1.0, (pairs, 2)) * np.array([9.0, 1.0]) * work.burst_ms * 1000
    edges = np.concatenate([[0.0], np.cumsum(lengths.ravel())])
    mean = (9 + work.burst_factor) / 10
    factors = np.tile([1 / mean, work.burst_factor / mean], pairs)
    if edges[-1] < end_us:
        edges, factors = np.append(edges, end_us), np.append(factors, 1 / mean)
    count = int(np.searchsorted(edges, end_us))
    return np.append(edges[:count], float(end_us)), factors[:count]


def draw_adapters(model: AdapterModel, draw: np.random.Generator, count: int) -> Ints:
    """Adapter indices, the most popular first."""
    if model.count == 0:
        return np.full(count, NO_ADAPTER, np.int64)
    uniform = draw.random(count)
    if model.power is not None:
        ranks: Ints = np.floor(uniform ** (1 / model.power) * model.count).astype(np.int64)
        return ranks
    exponent = 1.0 if model.zipf is None else model.zipf
    weights = np.arange(1, model.count + 1, dtype=np.float64) ** -exponent
    cumulative = np.cumsum(weights)
    found = np.searchsorted(cumulative, uniform * cumulative[-1], side="right")
    adapters: Ints = np.minimum(found, model.count - 1).astype(np.int64)
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


def spread(draw: np.random.Generator, median: float, sigma: float, count: int, unit: int = 1) -> list[int]:
    """Whole numbers (of 1/unit) of at least 1, lognormal about a median."""
    values = np.rint(unit * median * np.exp(sigma * draw.standard_normal(count)))
    return [max(1, int(value)) for value in values]


def _tokens(draw: np.random.Generator, mu: float, sigma: float, count: int, most: int) -> Ints:
    return np.clip(np.rint(draw.lognormal(mu, sigma, count)), 1, most).astype(np.int64)
