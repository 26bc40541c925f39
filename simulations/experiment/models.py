"""What a service scenario is made of: the people, machines and habits that a run models.

All arms of a seed see the same workload, the same workers and the same failures.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...scheduler.core import SchedulerConfig
from .tables import above, between, one_of

SCHEDULER_BOUNDS = {
    "advert_lifetime_ms": (1, 10_000_000_000),
    "max_workers": (1, 1_000_000),
    "max_asks": (1, 100_000_000),
    "max_attempts": (1, 1_000),
    "final_opinions": (1, 1_000),
    "backoff_ms": (0, 3_600_000),
    "max_backoff_ms": (0, 3_600_000),
    "backlog": (1, 1_000_000),
    "hedge_ppm": (0, 1_000_000),
    "client_asks": (0, 100_000_000),
    "client_spend": (0, 10**18),
    "spend_window_ms": (1, 10_000_000_000),
}
"""What a scenario may set of the scheduler, whose own checks are of a node's owner."""


@dataclass(frozen=True, slots=True)
class NetworkModel:
    """One-way latencies: `lognormal` over pairs of peers about `latency_ms`, or `globe`: peers live on land
    around the world and light needs its time in glass between them, beside `latency_ms` for both ends.
    Workers advertise every `advert_interval_ms`, more rarely where a topic would carry more than
    `topic_messages_per_s`.
    """

    gateways: int = between(1, 10_000, 1)
    placement: str = one_of(("lognormal", "globe"), "lognormal")
    latency_ms: int = between(0, 60_000, 30)
    latency_sigma: float = between(0, 5, 0.5)
    advert_interval_ms: int = between(1, 86_400_000, 10_000)
    topic_messages_per_s: int = between(1, 1_000_000, 5)
    loss_detected_ms: int = between(0, 3_600_000, 2_000)


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
    count: int = between(1, 1_000_000, 16)
    max_batch: int = between(1, 65_536, 8)
    max_queue: int = between(1, 10_000_000, 32)
    max_context: int = between(1, 10_000_000, 8_192)
    slots: int = between(1, 1_000_000, 8)
    disk: int = between(1, 10_000_000, 64)
    step_us: int = between(1, 60_000_000, 55_000)
    step_us_per_sequence: int = between(0, 60_000_000, 7_800)
    step_us_per_rank: int = between(0, 60_000_000, 0)
    prefill_us_per_token: int = between(0, 60_000_000, 1_500)
    overhead_us: int = between(0, 3_600_000_000, 0)
    speed_sigma: float = between(0, 5, 0.3)
    mix: tuple[tuple[float, float], ...] = ()
    load_ms: int = between(0, 3_600_000, 24)
    adapter_kb: int = between(0, 1_000_000_000, 4_900)
    download_kb_s: int = between(1, 1_000_000_000, 4_000)
    max_rank: int = between(1, 65_536, 64)
    placement_ms: int = between(0, 86_400_000, 0)
    placement_loads: int = between(1, 1_000_000, 2)
    prompt_per_1000: int = between(0, 1_000_000_000, 1_000)
    output_per_1000: int = between(0, 1_000_000_000, 4_000)
    request_fee: int = between(0, 1_000_000_000, 10)
    price_sigma: float = between(0, 3, 0.0)
    receipt_tokens: int = between(1, 1_000_000, 128)


@dataclass(frozen=True, slots=True)
class ChurnModel:
    """Workers live for Weibull times (shape below 1: many die young) and come back after a pause, with what
    is on their disk. A mean lifetime of 0 means for ever.
    """

    mean_lifetime_ms: int = between(0, 1_000_000_000_000, 0)
    shape: float = between(0.1, 20, 1.0)
    mean_absence_ms: int = between(0, 10_000_000_000, 30_000)


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

    rate_per_s: float = above(0, 1_000_000, 4.0)
    start_ms: int = between(0, 10_000_000_000, 0)
    arrivals: str = one_of(("gamma", "bursts"), "gamma")
    burstiness: float = between(0.01, 100, 1.0)
    burst_factor: float = between(1, 10_000, 10.0)
    burst_ms: int = between(1, 86_400_000, 5_000)
    diurnal: float = between(0, 1, 0.0)
    day_ms: int = between(1_000, 31_536_000_000, 86_400_000)
    lengths: str = "short"
    prompt_mu: float | None = between(-10, 20, None)
    prompt_sigma: float | None = between(0, 10, None)
    output_mu: float | None = between(-10, 20, None)
    output_sigma: float | None = between(0, 10, None)
    max_prompt: int = between(1, 10_000_000, 6_000)
    max_output: int = between(1, 1_000_000, 1_024)
    trace: str = ""
    trace_speedup: float = between(1e-06, 1_000_000, 1.0)
    payers: int = between(1, 1_000_000, 50)
    deposit: int = between(0, 1_000_000_000_000_000_000, 1_000_000_000)
    deadline_ms: int = between(1, 1_000_000_000, 60_000)


@dataclass(frozen=True, slots=True)
class AdapterModel:
    """Who asks for which adapter. Popularity is Zipf's with exponent `zipf` or, where `power` is given,
    S-LoRA's: rank = floor(u^(1/power) · count), 1 is uniform and less is more skewed. `base_share` asks the
    base alone; one adapter has at most `contributors` of that many in all. `ranks`, pairs of a share of the
    adapters and a rank, says how large they are; without it nobody asks.
    """

    count: int = between(0, 1_000_000, 100)
    zipf: float | None = between(0, 20, None)
    power: float | None = between(0.001, 1_000, None)
    base_share: float = between(0, 1, 0.1)
    contributors: int = between(1, 1_000_000, 30)
    ranks: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Targets:
    """What counts as a good answer (goodput)."""

    ttft_ms: int = between(0, 1_000_000_000, 2_000)
    token_ms: int = between(0, 1_000_000_000, 200)


@dataclass(frozen=True, slots=True)
class Money:
    """Epoch length; `trees` builds every epoch's commitment and verifies every claim, otherwise only sums are
    kept.
    """

    epoch_ms: int = between(1, 10_000_000_000, 60_000)
    trees: bool = True


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything a service run follows from, but the seed. `rows` keeps a row of every ask. `driver`:
    `kernel` models the peers, `virtual` runs real ones in virtual time (see `drivers`, `virtual`).
    """

    name: str
    about: str
    driver: str = one_of(("kernel", "virtual"), "kernel")
    warmup_ms: int = between(0, 10_000_000_000, 10_000)
    duration_ms: int = between(1, 10_000_000_000, 120_000)
    rows: bool = True
    network: NetworkModel = field(default_factory=NetworkModel)
    workers: WorkerModel = field(default_factory=WorkerModel)
    churn: ChurnModel = field(default_factory=ChurnModel)
    work: WorkModel = field(default_factory=WorkModel)
    adapters: AdapterModel = field(default_factory=AdapterModel)
    targets: Targets = field(default_factory=Targets)
    money: Money = field(default_factory=Money)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig, metadata={"bounds": SCHEDULER_BOUNDS})

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
