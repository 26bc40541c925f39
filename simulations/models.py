"""What a service scenario is made of: the people, machines and habits that a run models.

All arms of a seed see the same workload, the same workers and the same failures.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..scheduler.core import SchedulerConfig
from .drivers import check_driver
from .tables import WrongKey, above, at_least, between, one_of

MOST_ASKS = 100_000_000
"""No machine holds more asks than this, nor would it end."""


@dataclass(frozen=True, slots=True)
class NetworkModel:
    """One-way latencies: `lognormal` over pairs of peers about `latency_ms`, or `globe`: peers live on land
    around the world and light needs its time in glass between them, beside `latency_ms` for both ends.
    Workers advertise every `advert_interval_ms`, more rarely where a topic would carry more than
    `topic_messages_per_s`.
    """

    gateways: int = at_least(1, 1)
    placement: str = one_of(("lognormal", "globe"), "lognormal")
    latency_ms: int = at_least(0, 30)
    latency_sigma: float = at_least(0, 0.5)
    advert_interval_ms: int = at_least(1, 10_000)
    topic_messages_per_s: int = at_least(1, 5)
    loss_detected_ms: int = at_least(0, 2_000)


@dataclass(frozen=True, slots=True)
class WorkerModel:
    """A worker's engine. A decode step of n sequences takes `step_us` + n · `step_us_per_sequence`, prompts
    are read at `prefill_us_per_token`; `speed_sigma` spreads both over workers (lognormal, median 1), and
    `mix`, pairs of a share of the workers and a factor of time, makes classes of machines. An adapter takes
    `load_ms` from disk and `adapter_kb` / `download_kb_s` more from the network. Where adapters have ranks, a
    step takes `step_us_per_rank` more for each sequence and each rank of the largest adapter in the batch, to
    which the others are padded. Every `placement_ms` workers load up to `placement_loads` adapters of those
    that `scheduler.placement` would give them (0: never). Rates are token units; `price_sigma` spreads them.
    `model`: `batching` follows each batch as answers come and go, `seats` fixes an answer's times when it
    comes (see `crowd`), for networks of 10,000 peers and more.
    """

    model: str = one_of(("batching", "seats"), "batching")
    count: int = at_least(1, 16)
    max_batch: int = at_least(1, 8)
    max_queue: int = at_least(0, 32)
    max_context: int = at_least(1, 8_192)
    slots: int = at_least(1, 8)
    disk: int = at_least(1, 64)
    step_us: int = at_least(1, 55_000)
    step_us_per_sequence: int = at_least(0, 7_800)
    step_us_per_rank: int = at_least(0, 0)
    prefill_us_per_token: int = at_least(0, 1_500)
    overhead_us: int = at_least(0, 0)
    speed_sigma: float = at_least(0, 0.3)
    mix: tuple[tuple[float, float], ...] = ()
    load_ms: int = at_least(0, 24)
    adapter_kb: int = at_least(0, 4_900)
    download_kb_s: int = at_least(1, 4_000)
    max_rank: int = at_least(1, 64)
    placement_ms: int = at_least(0, 0)
    placement_loads: int = at_least(1, 2)
    prompt_per_1000: int = at_least(0, 1_000)
    output_per_1000: int = at_least(0, 4_000)
    request_fee: int = at_least(0, 10)
    price_sigma: float = at_least(0, 0.0)
    receipt_tokens: int = at_least(1, 128)


@dataclass(frozen=True, slots=True)
class ChurnModel:
    """Workers live for Weibull times (shape below 1: many die young) and come back after a pause, with what
    is on their disk. A mean lifetime of 0 means for ever.
    """

    mean_lifetime_ms: int = at_least(0, 0)
    shape: float = above(0, 1.0)
    mean_absence_ms: int = at_least(0, 30_000)


@dataclass(frozen=True, slots=True)
class WorkModel:
    """Asks arrive at `rate_per_s`, the first after `start_ms`. `arrivals`: `gamma` gaps of coefficient of
    variation `burstiness` (1: Poisson), or `bursts`: Poisson whose rate jumps between `burst_factor`
    times the calm one for `burst_ms` and calm for nine times as long, on average. `diurnal` swings the
    rate by that share of it over a period of `day_ms`. Token counts are lognormal: ln has mean `*_mu` and
    deviation `*_sigma`, cut to `max_prompt` and `max_output`; `lengths` names published fits in place of
    the four. `trace` (`azure:FILE`, `mooncake:FILE`, `csv:FILE`) replaces arrivals and lengths by
    recorded ones, `trace_speedup` times as fast.
    """

    rate_per_s: float = above(0, 4.0)
    start_ms: int = at_least(0, 0)
    arrivals: str = one_of(("gamma", "bursts"), "gamma")
    burstiness: float = above(0, 1.0)
    burst_factor: float = at_least(1, 10.0)
    burst_ms: int = at_least(1, 5_000)
    diurnal: float = between(0, 1, 0.0)
    day_ms: int = at_least(1, 86_400_000)
    lengths: str = "short"
    prompt_mu: float | None = None
    prompt_sigma: float | None = at_least(0, None)
    output_mu: float | None = None
    output_sigma: float | None = at_least(0, None)
    max_prompt: int = at_least(1, 6_000)
    max_output: int = at_least(1, 1_024)
    trace: str = ""
    trace_speedup: float = above(0, 1.0)
    payers: int = at_least(1, 50)
    deposit: int = at_least(0, 1_000_000_000)
    deadline_ms: int = at_least(1, 60_000)


@dataclass(frozen=True, slots=True)
class AdapterModel:
    """Who asks for which adapter. Popularity is Zipf's with exponent `zipf` or, where `power` is given,
    S-LoRA's: rank = floor(u^(1/power) · count), 1 is uniform and less is more skewed. `base_share` asks the
    base alone; one adapter has at most `contributors` of that many in all. `ranks`, pairs of a share of the
    adapters and a rank, says how large they are; without it nobody asks.
    """

    count: int = at_least(0, 100)
    zipf: float | None = at_least(0, None)
    power: float | None = above(0, None)
    base_share: float = between(0, 1, 0.1)
    contributors: int = at_least(1, 30)
    ranks: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Targets:
    """What counts as a good answer (goodput)."""

    ttft_ms: int = at_least(0, 2_000)
    token_ms: int = at_least(0, 200)


@dataclass(frozen=True, slots=True)
class Money:
    """Epoch length; `trees` builds every epoch's commitment and verifies every claim, otherwise only sums are
    kept.
    """

    epoch_ms: int = at_least(1, 60_000)
    trees: bool = True


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything a service run follows from, but the seed. `rows` keeps a row of every ask. `driver`:
    `kernel` models the peers, `virtual` runs real ones in virtual time (see `drivers`, `virtual`).
    """

    name: str
    about: str
    driver: str = one_of(("kernel", "virtual"), "kernel")
    warmup_ms: int = at_least(0, 10_000)
    duration_ms: int = at_least(1, 120_000)
    rows: bool = True
    network: NetworkModel = field(default_factory=NetworkModel)
    workers: WorkerModel = field(default_factory=WorkerModel)
    churn: ChurnModel = field(default_factory=ChurnModel)
    work: WorkModel = field(default_factory=WorkModel)
    adapters: AdapterModel = field(default_factory=AdapterModel)
    targets: Targets = field(default_factory=Targets)
    money: Money = field(default_factory=Money)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)

    @property
    def advert_interval_ms(self) -> int:
        """How often a worker advertises, given how many share its topic."""
        return max(
            self.network.advert_interval_ms, self.workers.count * 1000 // self.network.topic_messages_per_s
        )

    @property
    def advert_lifetime_ms(self) -> int:
        """How long a silent worker is believed in: three intervals at least."""
        return max(self.scheduler.advert_lifetime_ms, 3 * self.advert_interval_ms)


def check_scenario(scenario: Scenario) -> None:
    """Values that do not go together. Raises WrongKey."""
    if scenario.duration_ms <= scenario.warmup_ms:
        raise WrongKey("duration_ms", "duration_ms must be above warmup_ms")
    if scenario.work.start_ms >= scenario.duration_ms:
        raise WrongKey("work.start_ms", "work.start_ms must be below duration_ms")
    asks = scenario.work.rate_per_s * scenario.duration_ms / 1000
    if asks > MOST_ASKS and not scenario.work.trace:
        raise WrongKey("work.rate_per_s", f"work.rate_per_s gives {asks:.0e} asks, more than {MOST_ASKS:,}")
    if scenario.adapters.zipf is not None and scenario.adapters.power is not None:
        raise WrongKey("adapters.zipf", "give either adapters.zipf or adapters.power")
    _check_pairs("workers.mix", scenario.workers.mix, "factor of time")
    _check_pairs("adapters.ranks", scenario.adapters.ranks, "rank")
    if any(int(rank) != rank or rank > scenario.workers.max_rank for _, rank in scenario.adapters.ranks):
        raise WrongKey("adapters.ranks", "adapters.ranks holds whole ranks, at most workers.max_rank")
    _check_seats(scenario)
    check_driver(scenario)
    if scenario.churn.mean_lifetime_ms and not scenario.churn.mean_absence_ms:
        raise WrongKey("churn.mean_absence_ms", "churn.mean_absence_ms must be above 0 where workers die")


def _check_pairs(key: str, pairs: tuple[tuple[float, float], ...], what: str) -> None:
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2 or min(pair) <= 0:
            raise WrongKey(key, f"{key} holds pairs [share, {what}], all above 0")


def _check_seats(scenario: Scenario) -> None:
    """What was fixed when an answer came cannot change any more."""
    workers = scenario.workers
    if workers.model == "batching":
        return
    if scenario.scheduler.hedge_ppm:
        raise WrongKey(
            "scheduler.hedge_ppm", 'hedges need workers.model = "batching", which can be cancelled'
        )
    if scenario.adapters.ranks:
        raise WrongKey("adapters.ranks", 'ranks need workers.model = "batching"')
    if workers.placement_ms:
        raise WrongKey("workers.placement_ms", 'placement needs workers.model = "batching"')
