"""What a shell offers for a half-typed name: what the home's store has heard of, whether or not a node runs.

Whoever presses Tab waits for this, and sees nothing of what goes wrong: it is quick and silent.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from ..protocol.gossip.adverts import AdapterRecord, DatanetRecord


def adapters(context: typer.Context, incomplete: str) -> list[str]:
    """Adapters by name; of several joined by +, the last."""
    from ..protocol.gossip.adverts import AdapterRecord

    before, plus, begun = incomplete.rpartition("+")
    return [f"{before}{plus}{name}" for name in _names(context, AdapterRecord) if name.startswith(begun)]


def datanets(context: typer.Context, incomplete: str) -> list[str]:
    """Datanets by name."""
    from ..protocol.gossip.adverts import DatanetRecord

    return [name for name in _names(context, DatanetRecord) if name.startswith(incomplete)]


def _names(context: typer.Context, kind: type[AdapterRecord] | type[DatanetRecord]) -> list[str]:
    from ..peer.known_names import known_names
    from ..peer.local.one_machine import remembering_home
    from .options import home_at

    with suppress(Exception):
        return known_names(remembering_home(home_at(context.params.get("home"))), kind)
    return []
