"""`python -m benchmarks.tables [FILE]`: a serving result as the Markdown tables that docs/performance.md has
(tests/test_docs.py holds it to them).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .child import ROOT
from .serving import AIMS

RESULT = ROOT / "benchmarks" / "results" / "serving.json"
ROWS = ("base1", "base8", "same8", "mixed8", "power32")
PEAKS = {"rows": "peak MiB, 8 adapters", "latency": "peak MiB, all loaded"}
NOTHING = "-"
Result = Mapping[str, Any]


def tables(result: Result) -> list[str]:
    """All of them."""
    return [speeds(result), headlines(result), latencies(result), arrivals(result)]


def speeds(result: Result) -> str:
    """Tokens per CPU-second, and the peak of memory: with eight adapters, and with the most."""
    found = {(row["row"], row["arm"]): row["tokens_per_cpu_s"] for row in result["rows"]}
    lines = [
        [f"`{arm}`", *(_range(found.get((row, arm))) for row in ROWS), *_peaks(facts)]
        for arm, facts in result["arms"].items()
    ]
    return _table(["tokens per CPU-second", *(f"`{row}`" for row in ROWS), *PEAKS.values()], lines)


def headlines(result: Result) -> str:
    """The figures that have an aim."""
    return _table(
        ["figure", "measured", "range", "ours", "against", "aim"],
        [_headline(result, name, aim) for name, aim in AIMS.items()],
    )


def _headline(result: Result, name: str, aim: str) -> list[str]:
    compared = result["compared"].get(name)
    value = result.get(name)
    if compared is None:
        many = isinstance(value, Mapping)
        text = " / ".join(str(one) for one in value.values()) if many else str(value)
        return [f"`{name}`", text, NOTHING, f"at {' / '.join(value)}" if many else NOTHING, NOTHING, aim]
    _, low, high = compared["ratio"]
    sides = [f"`{compared[side].split()[1]}`" for side in ("ours", "theirs")]
    return [f"`{name}`", str(value), f"{low} … {high}", *sides, aim]


def latencies(result: Result) -> str:
    """An adapter's way from disk and from memory into use."""
    present = sorted({count for arm in result["latency"]["disk"].values() for count in arm}, key=int)
    lines = []
    for arm, timed in result["latency"]["disk"].items():
        to_slot = result["latency"]["memory"].get(arm)
        disk = [_range(timed[count]["ms"]) if count in timed else NOTHING for count in present]
        lines.append([f"`{arm}`", *disk, _range(to_slot["ms"] if to_slot else None)])
    return _table(["milliseconds", *(f"disk, {count} present" for count in present), "memory"], lines)


def arrivals(result: Result) -> str:
    """TTFT and TPOT under arrivals, as many active adapters as slots and more."""
    lines = [
        [
            f"`{arm}`",
            str(measured["asks_per_s"]),
            count,
            *(f"{under[f'{name}_p50']} / {under[f'{name}_p99']}" for name in ("ttft_ms", "tpot_ms")),
        ]
        for arm, measured in result["arrivals"].items()
        for count, under in measured["active"].items()
    ]
    return _table(
        ["arm", "asks a second", "active adapters", "TTFT p50 / p99, ms", "TPOT p50 / p99, ms"], lines
    )


def _range(figure: Sequence[float] | None) -> str:
    return NOTHING if figure is None else f"{figure[0]} ({figure[1]} … {figure[2]})"


def _peaks(facts: Result) -> list[str]:
    return [str(facts["memory_mib"][part][1]) if part in facts["memory_mib"] else NOTHING for part in PEAKS]


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    ruled = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in ruled)


def main(arguments: Sequence[str]) -> int:
    """Print them."""
    path = Path(arguments[0]) if arguments else RESULT
    print("\n\n".join(tables(json.loads(path.read_text(encoding="utf-8")))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
