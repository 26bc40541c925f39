"""The project's rule of admission, applied to what was committed in an attack."""

from __future__ import annotations

from collections.abc import Sequence

from commonlore.protocol.copies import Representatives

from .texts import Entry


def admit(entries: Sequence[Entry]) -> list[Entry]:
    """What is trained on and scored, in the order given; a contributor's rows are one shard, committed with
    its first row."""
    representatives, dropped = Representatives(), set()
    for name in dict.fromkeys(entry.contributor for entry in entries):
        places = [place for place, entry in enumerate(entries) if entry.contributor == name]
        verdicts = representatives.admit(name.encode(), [entries[place].text for place in places])
        dropped |= {places[verdict.position] for verdict in verdicts}
    return [entry for place, entry in enumerate(entries) if place not in dropped]
