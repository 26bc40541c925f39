"""Request logs of real workers, and the modelled engine run over their arrivals."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ..experiment.tables import WrongKey
from ..modelled.kernel import Kernel
from ..modelled.machines import Machine
from ..modelled.workers import Engine, EngineSpeed, Job

WHOLE = ("stop", "length")
FIELDS = (
    "arrived_ms",
    "held",
    "prompt_tokens",
    "delivered",
    "output_tokens",
    "first_ms",
    "last_ms",
    "finish",
)


@dataclass(frozen=True, slots=True)
class Served:
    """One ask at one worker; times are milliseconds from its arrival."""

    arrived_ms: int
    adapter: int
    held: bool
    prompt_tokens: int
    output_tokens: int
    first_ms: float
    last_ms: float
    is_whole: bool

    @property
    def token_ms(self) -> float:
        """Time per output token after the first (TPOT)."""
        return (self.last_ms - self.first_ms) / (self.output_tokens - 1)

    @property
    def is_measured(self) -> bool:
        """Whether both times can be compared: whole, and of two tokens at least."""
        return self.is_whole and self.output_tokens > 1


def read_log(path: Path, key: str) -> list[Served]:
    """A worker's request log, in order of arrival. Raises WrongKey with the line that is wrong."""
    numbers: dict[str, int] = {}
    served: list[Served] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WrongKey(key, f"{key}: {error}") from error
    for number, line in enumerate(lines, 1):
        try:
            served.append(_served(json.loads(line), numbers))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise WrongKey(key, f"{path}, line {number}: no entry of a request log: {error!r}") from error
    if sum(each.is_measured for each in served) < 2:
        raise WrongKey(key, f"{key}: {path} holds no two whole answers of two tokens or more")
    return sorted(served, key=lambda each: each.arrived_ms)


def _served(entry: dict[str, object], numbers: dict[str, int]) -> Served:
    values = {name: entry[name] for name in FIELDS}
    adapter = entry.get("adapter")
    number = -1 if adapter is None else numbers.setdefault(str(adapter), len(numbers))
    counts = [
        int(str(values[name])) for name in ("arrived_ms", "prompt_tokens", "delivered", "output_tokens")
    ]
    first, last = float(str(values["first_ms"])), float(str(values["last_ms"]))
    if min(counts) < 0 or not 0 <= first <= last < 1e9:
        raise ValueError("negative, or times that do not follow each other")
    arrived, prompt, delivered, output = counts
    is_whole = values["finish"] in WHOLE and output > 0
    return Served(arrived, number, values["held"] is True, prompt + delivered, output, first, last, is_whole)


@dataclass(frozen=True, slots=True)
class Predicted:
    """What the model says of one ask; milliseconds."""

    first_ms: float
    token_ms: float


def replay(logs: list[list[Served]], speed: EngineSpeed, contention_ppm: int = 0) -> list[list[Predicted]]:
    """The model's times of each ask of each worker, in the order given; all arrive when they did.

    An adapter that was held is not loaded; one that was not costs what the speed says, once. The workers
    share a machine; with a contention of 0 each has its own.
    """
    kernel, machine = Kernel(), Machine(contention_ppm)
    ends: list[dict[int, tuple[int, int]]] = [{} for _ in logs]
    since_ms = min(served[0].arrived_ms for served in logs)
    for served, told in zip(logs, ends, strict=True):
        engine = Engine(kernel, speed, machine)
        for number, ask in enumerate(served):
            adapter, output = ask.adapter if not ask.held else -1, max(1, ask.output_tokens)
            job = Job(number, adapter, ask.prompt_tokens, output, _nothing, _Noting(told, kernel))
            kernel.at((ask.arrived_ms - since_ms) * 1000, engine.add, job)
    kernel.run()
    return [
        [_predicted(ask, told[number], since_ms) for number, ask in enumerate(served)]
        for served, told in zip(logs, ends, strict=True)
    ]


def _predicted(ask: Served, told: tuple[int, int], since_ms: int) -> Predicted:
    first_us, last_us = told
    first_ms = first_us / 1000 - (ask.arrived_ms - since_ms)
    return Predicted(first_ms, (last_us - first_us) / 1000 / max(1, ask.output_tokens - 1))


def _nothing(_job: Job) -> None:
    return None


class _Noting:
    """Remembers when a job had its first token and its last."""

    def __init__(self, ends: dict[int, tuple[int, int]], kernel: Kernel) -> None:
        self._ends = ends
        self._kernel = kernel

    def __call__(self, job: Job) -> None:
        self._ends[job.number] = (job.first_us, self._kernel.now_us)
