"""What is simulated: a TOML file becomes one frozen Scenario.

Unknown keys, wrong types and impossible values are errors.

`[sweep]` maps dotted keys to lists of values, e.g. `"scheduler.policy" = ["random", "cheapest"]`; each
combination is an arm of the experiment. All arms of a seed see the same workload, the same workers and the
same failures.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from itertools import product
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from ..protocol.errors import ConfigError
from ..scheduler.core import SchedulerConfig

PACKAGED = Path(__file__).with_name("scenarios")
Table = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NetworkModel:
    """One-way latencies are lognormal over pairs of peers. Workers advertise every `advert_interval_ms`, more
    rarely where a topic would carry more than `topic_messages_per_s`.
    """

    gateways: int = 1
    latency_ms: int = 30
    latency_sigma: float = 0.5
    advert_interval_ms: int = 10_000
    topic_messages_per_s: int = 5
    loss_detected_ms: int = 2_000


@dataclass(frozen=True, slots=True)
class WorkerModel:
    """A worker's engine. A decode step of n sequences takes `step_us` + n · `step_us_per_sequence`, prompts
    are read at `prefill_us_per_token`; `speed_sigma` spreads both over workers (lognormal, median 1). An
    adapter takes `load_ms` from disk and `adapter_kb` / `download_kb_s` more from the network. Rates are
    token units; `price_sigma` spreads them.
    """

    count: int = 16
    max_batch: int = 8
    max_queue: int = 32
    max_context: int = 8_192
    slots: int = 8
    disk: int = 64
    step_us: int = 55_000
    step_us_per_sequence: int = 7_800
    prefill_us_per_token: int = 1_500
    speed_sigma: float = 0.3
    load_ms: int = 24
    adapter_kb: int = 4_900
    download_kb_s: int = 4_000
    prompt_per_1000: int = 1_000
    output_per_1000: int = 4_000
    request_fee: int = 10
    price_sigma: float = 0.0
    receipt_tokens: int = 128


@dataclass(frozen=True, slots=True)
class ChurnModel:
    """Workers live for Weibull times (shape below 1: many die young) and come back after a pause, with what
    is on their disk. A mean lifetime of 0 means for ever.
    """

    mean_lifetime_ms: int = 0
    shape: float = 1.0
    mean_absence_ms: int = 30_000


@dataclass(frozen=True, slots=True)
class WorkModel:
    """Asks arrive at `rate_per_s` with Gamma gaps of coefficient of variation `burstiness` (1: Poisson).
    Token counts are lognormal: ln has mean `*_mu` and deviation `*_sigma`, cut to `max_prompt` and
    `max_output`; `lengths` names published fits in place of the four. Adapters are drawn by `skew`: `zipf`
    (exponent) or `power` (rank ∝ u^(1/exponent)).
    """

    rate_per_s: float = 4.0
    burstiness: float = 1.0
    lengths: str = "short"
    prompt_mu: float | None = None
    prompt_sigma: float | None = None
    output_mu: float | None = None
    output_sigma: float | None = None
    max_prompt: int = 6_000
    max_output: int = 1_024
    adapters: int = 100
    skew: str = "zipf"
    exponent: float = 1.0
    base_share: float = 0.1
    payers: int = 50
    deposit: int = 1_000_000_000
    contributors: int = 30
    deadline_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class Targets:
    """What counts as a good answer (goodput)."""

    ttft_ms: int = 2_000
    token_ms: int = 200


@dataclass(frozen=True, slots=True)
class Money:
    """Epoch length; `trees` builds every epoch's commitment and verifies every claim, otherwise only sums are
    kept.
    """

    epoch_ms: int = 60_000
    trees: bool = True


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything a run follows from, but the seed. `table` is the TOML it came from, `sweep` its arms."""

    name: str
    about: str
    warmup_ms: int = 10_000
    duration_ms: int = 120_000
    network: NetworkModel = field(default_factory=NetworkModel)
    workers: WorkerModel = field(default_factory=WorkerModel)
    churn: ChurnModel = field(default_factory=ChurnModel)
    work: WorkModel = field(default_factory=WorkModel)
    targets: Targets = field(default_factory=Targets)
    money: Money = field(default_factory=Money)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    sweep: tuple[tuple[str, tuple[Any, ...]], ...] = ()

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


@dataclass(frozen=True, slots=True)
class Arm:
    """One combination of the sweep: its label, such as `policy=random`, and its scenario."""

    label: str
    scenario: Scenario


@dataclass(frozen=True, slots=True)
class Experiment:
    """A scenario file: its arms, in the order of the sweep, and the digest (sha-256, hexadecimal) of its
    meaning.
    """

    name: str
    about: str
    arms: tuple[Arm, ...]
    digest: str


def scenario_names() -> list[str]:
    """The scenarios that come with the package."""
    return sorted(path.stem for path in PACKAGED.glob("*.toml"))


def scenario_path(name: str) -> Path:
    """The file of a packaged scenario's name, or of a path. Raises ConfigError if there is none."""
    path = Path(name)
    if path.suffix != ".toml":
        path = PACKAGED / f"{name}.toml"
    if not path.is_file():
        raise ConfigError(f"no scenario {name!r}; give a .toml file or one of: {', '.join(scenario_names())}")
    return path


def load_experiment(path: Path, overrides: Mapping[str, tuple[Any, ...]] | None = None) -> Experiment:
    """The experiment in a file; `overrides` are dotted keys with values that replace its sweep's.

    Raises ConfigError.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if overrides:
        table["sweep"] = {
            **table.get("sweep", {}),
            **{key: list(values) for key, values in overrides.items()},
        }
    try:
        return read_experiment(table)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def read_experiment(table: Table) -> Experiment:
    """The experiment a parsed TOML table describes. Raises ConfigError."""
    sweep = table.get("sweep", {})
    plain = {key: value for key, value in table.items() if key != "sweep"}
    if not isinstance(sweep, dict) or not all(isinstance(each, list) and each for each in sweep.values()):
        raise ConfigError("[sweep] maps dotted keys to lists of values that are not empty")
    arms = tuple(_arm(plain, dict(zip(sweep, values, strict=True))) for values in product(*sweep.values()))
    canonical = json.dumps({**plain, "sweep": sweep}, sort_keys=True, separators=(",", ":"))
    name, about = arms[0].scenario.name, arms[0].scenario.about
    return Experiment(name, about, arms, hashlib.sha256(canonical.encode()).hexdigest())


def _arm(table: Table, choice: Mapping[str, Any]) -> Arm:
    chosen = deepcopy(dict(table))
    for key, value in choice.items():
        *parents, last = key.split(".")
        inner = chosen
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{key}: there is no table {parent}")
        inner[last] = value
    label = ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in choice.items())
    scenario = read_table(Scenario, chosen, "")
    _check(scenario)
    return Arm(label or scenario.scheduler.policy, scenario)


def read_table(cls: type[T], table: Table, where: str) -> T:
    """A dataclass from a TOML table, with nested ones from its tables. Raises ConfigError naming the key."""
    hints = get_type_hints(cls)
    names = {each.name: each for each in fields(cls) if each.name != "sweep"}  # type: ignore[arg-type]
    for key in table:
        if key not in names:
            raise ConfigError(f"unknown key {where}{key}; known: {', '.join(names)}")
    for name, each in names.items():
        if name not in table and each.default is MISSING and each.default_factory is MISSING:
            raise ConfigError(f"{where}{name} is missing")
    return cls(**{key: _value(hints[key], value, f"{where}{key}") for key, value in table.items()})


def _value(kind: Any, value: Any, where: str) -> Any:
    if is_dataclass(kind) and isinstance(value, dict):
        return read_table(kind, value, f"{where}.")  # type: ignore[arg-type]
    if kind in (float, float | None) and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        wanted = getattr(kind, "__name__", str(kind))
        raise ConfigError(f"{where} is {value!r}; it must be a value of type {wanted}")
    return value


def _check(scenario: Scenario) -> None:
    """Values that no run can have. Raises ConfigError."""
    work, workers = scenario.work, scenario.workers
    rules = (
        (scenario.duration_ms > scenario.warmup_ms >= 0, "duration_ms must be above warmup_ms"),
        (
            workers.count >= 1 and workers.max_batch >= 1,
            "workers.count and workers.max_batch must be at least 1",
        ),
        (
            workers.slots >= 1 and workers.receipt_tokens >= 1,
            "workers.slots and receipt_tokens must be at least 1",
        ),
        (workers.download_kb_s >= 1, "workers.download_kb_s must be at least 1"),
        (work.rate_per_s > 0 and work.burstiness > 0, "work.rate_per_s and work.burstiness must be above 0"),
        (
            work.adapters >= 0 and work.payers >= 1,
            "work.adapters must not be negative, work.payers at least 1",
        ),
        (work.contributors >= 1, "work.contributors must be at least 1"),
        (0 <= work.base_share <= 1, "work.base_share must be between 0 and 1"),
        (work.skew in ("zipf", "power"), f"work.skew is {work.skew!r}; choose zipf or power"),
        (work.exponent > 0, "work.exponent must be above 0"),
        (scenario.network.gateways >= 1, "network.gateways must be at least 1"),
        (scenario.network.topic_messages_per_s >= 1, "network.topic_messages_per_s must be at least 1"),
        (scenario.churn.shape > 0, "churn.shape must be above 0"),
        (scenario.money.epoch_ms >= 1, "money.epoch_ms must be at least 1"),
    )
    for holds, message in rules:
        if not holds:
            raise ConfigError(message)
