"""The project's rule of admission, as a training node applies it to what was committed in an attack: copies
go first, then contributors whose rows are noise to a world's base."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict

from commonlore.protocol.content.copies import Representatives
from commonlore.worker.factory.admission import Gains, plan_admission, refused
from commonlore.worker.factory.admit import measure_gains
from commonlore.worker.factory.job import Pair

from .attacks import Admit
from .texts import Entry
from .world import World


def rule_of(world: World) -> Admit:
    """What is trained on and scored in this world, in the order given."""

    def admit(entries: Sequence[Entry]) -> list[Entry]:
        return without_noise(world, without_copies(entries))

    return admit


def without_copies(entries: Sequence[Entry]) -> list[Entry]:
    """The representatives; a contributor's rows are one shard, committed with its first row."""
    representatives, dropped = Representatives(), set()
    for name in dict.fromkeys(entry.contributor for entry in entries):
        places = [place for place, entry in enumerate(entries) if entry.contributor == name]
        verdicts = representatives.admit(name.encode(), [entries[place].text for place in places])
        dropped |= {places[verdict.position] for verdict in verdicts}
    return [entry for place, entry in enumerate(entries) if place not in dropped]


def without_noise(world: World, entries: Sequence[Entry]) -> list[Entry]:
    """The entries of contributors whose rows are language."""
    names = list(dict.fromkeys(entry.contributor for entry in entries))
    if len(names) < 2:
        return list(entries)
    out = {names[number] for number in refused(gains_of(world, entries, names))}
    return [entry for entry in entries if entry.contributor not in out]


def gains_of(world: World, entries: Sequence[Entry], names: Sequence[str]) -> list[Gains]:
    """What the admission test measures of each contributor; kept."""
    rows = [[Pair("", entry.text) for entry in entries if entry.contributor == name] for name in names]
    folder = world.folder / "admission"
    folder.mkdir(exist_ok=True)
    path = folder / f"{hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]}.json"
    if not path.exists():
        gains = measure_gains(world.base, plan_admission(world.base.directory, rows), lambda _: None)
        path.write_text(json.dumps([asdict(own) for own in gains]))
    return [
        Gains(tuple(own["plain"]), own["learnt"] and tuple(own["learnt"]))
        for own in json.loads(path.read_text())
    ]
