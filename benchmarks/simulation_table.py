"""`python -m benchmarks.simulation_table`: the scheduler at size, interpreted and compiled, as the Markdown
table that docs/performance.md has (tests/test_docs.py holds it to the result)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .child import ROOT

RESULT = ROOT / "benchmarks" / "results" / "simulation.json"
HEAD = ("peers", "asks", *("asks a second", "the whole run", "peak") * 2)


def peers_table(result: Mapping[str, Any]) -> str:
    """A row a size: left as Python interprets it, right compiled."""
    lines = [HEAD, ("---",) * len(HEAD)]
    for size, compiled in result["peers"].items():
        interpreted = result["peers_interpreted"][size]
        lines.append((f"{int(size):,}", f"{compiled['asks']:,}", *_speed(interpreted), *_speed(compiled)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _speed(figures: Mapping[str, float]) -> tuple[str, str, str]:
    return f"{figures['asks_per_s']:,.0f}", f"{figures['seconds']:.1f} s", f"{figures['peak_mb']:,} MB"


if __name__ == "__main__":
    print(peers_table(json.loads(RESULT.read_text(encoding="utf-8"))))
