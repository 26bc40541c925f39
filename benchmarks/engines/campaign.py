"""The parts of the serving benchmark, each with its own team of arms."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..child import Message, note
from ..figures import rounded
from .catalogue import BY_NAME, DEFAULT, FIRST, Sizes
from .jobs import Job
from .latency import PEFT_PRESENT, LatencyPlan, Moved, measure_latency
from .loads import ROWS, Loads
from .material import Material
from .rows import Sample, latencies, sample_of
from .team import Team, open_team

PARTS = ("rows", "arrivals", "power", "latency")
POWER = "power32"
STEPPED = ("ours", "vllm")
"""Engines that take requests while others run, and any of many adapters."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    base: str = "starter"
    arms: tuple[str, ...] = DEFAULT
    parts: tuple[str, ...] = PARTS
    rounds: int = 5
    prompt_tokens: int = 32
    answer_tokens: int = 24
    power_rounds: int = 2
    power_asks: int = 96
    power_adapters: int = 1000
    power_concurrency: int = 32
    arriving: int = 100
    arriving_load: float = 0.5
    """Of the arm's own speed with 8 different adapters, by CPU-seconds: how fast asks arrive."""
    times_active: int = 4
    """Active adapters by slots, where the slots do not suffice."""
    present: tuple[int, ...] = (1, 100, 1000)
    moved: int = 10

    @property
    def adapters(self) -> int:
        """How many there must be on disk."""
        needed = {
            "rows": FIRST,
            "arrivals": FIRST * self.times_active,
            "power": self.power_adapters,
            "latency": max(*self.present, PEFT_PRESENT) + self.moved,
        }
        return max(needed[part] for part in self.parts)


@dataclass(slots=True)
class Outcome:
    """What was measured. `samples` by (row, arm)."""

    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=lambda: defaultdict(list))
    arrivals: dict[str, Message] = field(default_factory=dict)
    moved: Moved = field(default_factory=Moved)
    facts: dict[str, Message] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def take(self, part: str, team: Team) -> None:
        """What a team says of itself; memory by part, because arms are set up differently."""
        for arm, facts in team.facts.items():
            memory = {name: facts.pop(name) for name in ("rss_mib", "peak_rss_mib") if name in facts}
            known = self.facts.setdefault(arm, {})
            known |= {name: value for name, value in facts.items() if name not in known}
            known.setdefault("memory_mib", {})[part] = [memory.get("rss_mib"), memory.get("peak_rss_mib")]
        self.absent |= team.absent


def run(plan: Plan, material: Material, folder: Path) -> Outcome:
    """Every part of the plan. All processes have ended when this returns."""
    outcome = Outcome()
    size = material.base.architecture.vocabulary
    loads = Loads(1, size, plan.prompt_tokens, plan.answer_tokens)
    if {"rows", "arrivals"} & set(plan.parts):
        sizes = Sizes(batch=FIRST, slots=FIRST, kept=2 * FIRST * plan.times_active)
        arms = plan.arms if "rows" in plan.parts else _stepped(plan)
        with open_team(arms, material, sizes, folder) as team:
            if "rows" in plan.parts:
                measure_rows(plan, team, loads, outcome)
                team.note_memory()
            if "arrivals" in plan.parts:
                measure_arrivals(plan, team, loads, outcome)
        outcome.take("rows", team)
    if "power" in plan.parts:
        sizes = Sizes(plan.power_concurrency, plan.power_concurrency, max(plan.power_adapters, 64))
        with open_team(_stepped(plan), material, sizes, folder) as team:
            measure_power(plan, team, loads, outcome)
        outcome.take("power", team)
    if "latency" in plan.parts:
        sizes = Sizes(FIRST, FIRST, max(plan.present) + plan.moved + 2 * FIRST)
        with open_team(_loading(plan), material, sizes, folder) as team:
            outcome.moved = measure_latency(LatencyPlan(plan.present, plan.moved), team, loads, material)
        outcome.take("latency", team)
    return outcome


def _stepped(plan: Plan) -> list[str]:
    return [arm for arm in plan.arms if BY_NAME[arm].engine in STEPPED and not BY_NAME[arm].base_only]


def _loading(plan: Plan) -> list[str]:
    return [*_stepped(plan), *(arm for arm in plan.arms if BY_NAME[arm].engine == "peft")]


# ---- rows, in turns


def measure_rows(plan: Plan, team: Team, loads: Loads, outcome: Outcome) -> None:
    """Rounds of all rows; in each row all arms have their turn with the same asks. The first is a warm-up."""
    for number in range(plan.rounds + 1):
        for row in ROWS:
            _turn(row, team, loads.row(row), (outcome, number))
        note(f"round {number} of {plan.rounds}")


def measure_power(plan: Plan, team: Team, loads: Loads, outcome: Outcome) -> None:
    """Many adapters, a few of them often; a short warm-up first."""
    for number in range(plan.power_rounds + 1):
        asks = plan.power_asks if number else plan.power_concurrency
        job = loads.power_law(asks, plan.power_adapters, plan.power_concurrency)
        _turn(POWER, team, job, (outcome, number))
        note(f"power-law round {number} of {plan.power_rounds}")


def _turn(row: str, team: Team, job: Job, kept: tuple[Outcome, int]) -> None:
    outcome, number = kept
    arms = list(team.children)
    start = number % max(1, len(arms))
    for arm in arms[start:] + arms[:start]:
        if BY_NAME[arm].base_only and any(ask.adapter is not None for ask in job.asks):
            continue
        said = team.ask(arm, job.order())
        if said is not None and number:
            outcome.samples[row, arm].append(sample_of(said))


# ---- more active adapters than slots


def measure_arrivals(plan: Plan, team: Team, loads: Loads, outcome: Outcome) -> None:
    """At one arrival rate: as many active adapters as slots, and several times as many; all in memory."""
    for arm in [arm for arm in team.children if arm in _stepped(plan)]:
        calm = [team.ask(arm, loads.row("mixed8").order()) for _ in range(3)][-1]
        if calm is None:
            continue
        per_s = plan.arriving_load * sample_of(calm).tokens_per_cpu_s / plan.answer_tokens
        by_active = _arrivals_of(
            arm, team, loads, (loads.times(plan.arriving // 2, per_s), plan.times_active)
        )
        if by_active is not None:
            outcome.arrivals[arm] = arrivals_message(per_s, by_active)
            note(f"{arm} had arrivals at {per_s:.2f} a second")


def _arrivals_of(
    arm: str, team: Team, loads: Loads, rate: tuple[list[float], int]
) -> dict[int, list[Sample]] | None:
    """Few, many, many, few: what slows the machine for a while does not hit one side only."""
    times, times_active = rate
    found: dict[int, list[Sample]] = {FIRST: [], FIRST * times_active: []}
    for count in (*found, *reversed(found)):
        team.ask(arm, {"do": "bring_quietly", "adapters": list(range(count))})
        said = team.ask(arm, loads.arriving(count, times).order())
        if said is None:
            return None
        found[count].append(sample_of(said))
    return found


def arrivals_message(per_s: float, by_active: Mapping[int, Sequence[Sample]]) -> Message:
    """By active adapters, and how much worse the slowest first tokens are with more than slots."""
    active = {str(count): latencies(samples) | _share(samples) for count, samples in by_active.items()}
    few, many = (under["ttft_ms_p99"] for under in active.values())
    return {"asks_per_s": rounded(per_s), "active": active, "p99_ttft_ratio": rounded(many / few)}


def _share(samples: Sequence[Sample]) -> Message:
    """How much of a processor the engine had."""
    cpu_s, seconds = (sum(getattr(sample, name) for sample in samples) for name in ("cpu_s", "seconds"))
    return {"processor_share": rounded(cpu_s / seconds)}
