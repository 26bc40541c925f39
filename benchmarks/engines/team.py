"""Arms that take turns: all of them loaded, one of them running, the others stopped where they are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from ..child import Child, ChildFailed, Message, note, open_child
from .catalogue import BY_NAME, Missing, Sizes, launch_of, module_of, settings_of
from .material import Material


@dataclass(slots=True)
class Team:
    """The arms that came up; `facts` and `absent` by name tell of all that were wanted."""

    children: dict[str, Child] = field(default_factory=dict)
    facts: dict[str, Message] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def ask(self, arm: str, order: Mapping[str, object]) -> Message | None:
        """One arm's turn; None when it cannot do this, or is no more."""
        child = self.children.get(arm)
        if child is None:
            return None
        child.resume()
        try:
            said = child.ask(order)
        except ChildFailed as failed:
            self._lost(arm, str(failed))
            return None
        child.pause()
        if "absent" in said:
            self.facts[arm].setdefault("cannot", {})[str(order["do"])] = said["absent"]
            return None
        return said

    def _lost(self, arm: str, why: str) -> None:
        note(f"{arm} is out: {why}")
        self.absent[arm] = why[-300:]
        del self.children[arm]

    def note_memory(self) -> None:
        """Into the facts: memory at this moment and at its peak, of each process that still runs."""
        for arm, child in self.children.items():
            memory = _memory_mib(child.process.pid)
            peak = max(memory["peak_rss_mib"], self.facts[arm].get("peak_rss_mib", 0))
            self.facts[arm] |= memory | {"peak_rss_mib": peak}


@contextmanager
def open_team(arms: Sequence[str], material: Material, sizes: Sizes, folder: Path) -> Iterator[Team]:
    """Start the arms one after another, and stop each where it is ready."""
    team = Team()
    with ExitStack() as stack:
        for arm in arms:
            _start(team, arm, (material, sizes, folder), stack)
        yield team
        team.note_memory()


def _start(team: Team, arm: str, where: tuple[Material, Sizes, Path], stack: ExitStack) -> None:
    material, sizes, folder = where
    began = time.monotonic()
    try:
        settings = settings_of(BY_NAME[arm], material, sizes)
        launch = launch_of(BY_NAME[arm], material)
        child = stack.enter_context(open_child(module_of(BY_NAME[arm]), settings, folder, launch))
        said = child.wait_ready()
    except (Missing, ChildFailed) as why:
        said = {"absent": str(why)[-300:]}
    if "absent" in said:
        note(f"{arm} is absent: {said['absent']}")
        team.absent[arm] = said["absent"]
        return
    child.pause()
    team.children[arm] = child
    team.facts[arm] = {"setup_s": round(time.monotonic() - began, 1), **said["facts"]}
    note(f"{arm} is ready")


def _memory_mib(pid: int) -> Message:
    rss = psutil.Process(pid).memory_info().rss / 2**20
    peak = rss
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("VmHWM:"):
                peak = int(line.split()[1]) / 1024
    return {"rss_mib": round(rss), "peak_rss_mib": round(peak)}
