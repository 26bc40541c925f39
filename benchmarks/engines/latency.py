"""How long an adapter takes from disk, and from memory, to where a request can use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..child import Message, note
from ..figures import median
from .catalogue import BY_NAME
from .loads import Loads
from .material import Material
from .rows import spread
from .team import Team

PEFT_PRESENT = 32
"""A load there takes longer with every adapter that is present: 2 s with 32. More was not waited for."""


@dataclass(frozen=True, slots=True)
class LatencyPlan:
    """How many adapters were used before, and how many are timed after them."""

    present: tuple[int, ...]
    moved: int


@dataclass(slots=True)
class Moved:
    """By arm: loads from disk by how many adapters were present, and moves from memory into use."""

    from_disk: dict[str, Message] = field(default_factory=dict)
    from_memory: dict[str, Message] = field(default_factory=dict)


def measure_latency(plan: LatencyPlan, team: Team, loads: Loads, material: Material) -> Moved:
    """With ever more adapters that were loaded before, and are kept as the engine keeps them."""
    moved = Moved()
    brought = {arm: int(BY_NAME[arm].engine == "peft") for arm in team.children}  # it starts with one
    for arm in list(team.children):
        for _ in range(2):  # an engine's first steps have costs of their own
            team.ask(arm, loads.row("base8").order())
    for present in sorted({*plan.present, PEFT_PRESENT}):
        for arm in _wanted(present, plan, team):
            fill = range(brought[arm], present)
            team.ask(arm, {"do": "bring_quietly", "adapters": list(fill)})
            brought[arm] = max(present, brought[arm])
            timed = range(brought[arm], brought[arm] + plan.moved)
            said = team.ask(arm, _moving("bring", timed, loads, material))
            brought[arm] += plan.moved
            if said is not None:
                moved.from_disk.setdefault(arm, {})[str(present)] = moved_message(said)
                note(f"{arm} loads with {present} present: {median(said['ms']).value:.1f} ms")
    for arm in list(team.children):
        said = team.ask(arm, _moving("activate", range(plan.moved), loads, material))
        if said is not None:
            moved.from_memory[arm] = moved_message(said)
    return moved


def _wanted(present: int, plan: LatencyPlan, team: Team) -> list[str]:
    """The arms that are measured with so many."""
    return [
        arm
        for arm in team.children
        if (present <= PEFT_PRESENT if BY_NAME[arm].engine == "peft" else present in plan.present)
    ]


def _moving(do: str, adapters: Sequence[int], loads: Loads, material: Material) -> Message:
    return {
        "do": do,
        "adapters": list(adapters),
        "files": [str(material.adapter_file(adapter)) for adapter in adapters],
        "prompts": loads.prompts(2 * len(adapters)),
    }


def moved_message(said: Mapping[str, Sequence[float]]) -> Message:
    """`use_ms`: what the first request with it took more than the second, which the move had put off."""
    put_off = [a - b for a, b in zip(said["first_token_ms"], said["next_token_ms"], strict=True)]
    return {
        "ms": spread(median(said["ms"])),
        "cpu_ms": spread(median(said["cpu_ms"])),
        "use_ms": spread(median(put_off)),
    }
