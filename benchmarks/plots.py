"""`python -m benchmarks.plots`: the results of serving and settlement as the pictures that docs/ has."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .drawing import OURS, PICTURES, THEIRS, begin, plt, save
from .tables import RESULT as SERVING

SETTLEMENT = SERVING.with_name("settlement.json")
ROWS = {
    "base1": "one answer,\nplain base",
    "base8": "eight answers,\nplain base",
    "same8": "eight answers,\none adapter",
    "mixed8": "eight answers,\neight adapters",
}
SHADES = ("#d9d9d9", "#bdbdbd", "#969696", "#737373", "#525252", "#353535")
Result = Mapping[str, Any]


def draw(serving: Result, settlement: Result, folder: Path) -> list[Path]:
    """Both pictures' files."""
    begin(folder)
    return [
        _speeds(serving, folder / "serving-speeds.svg"),
        _gas(settlement, folder / "settlement-gas.svg"),
    ]


def _speeds(result: Result, path: Path) -> Path:
    """Tokens per CPU-second by row and arm: the median, with the lowest and the highest round."""
    found = {(one["row"], one["arm"]): one["tokens_per_cpu_s"] for one in result["rows"]}
    arms = [arm for arm in result["arms"] if any((row, arm) in found for row in ROWS)]
    ours = [arm for arm in arms if arm.startswith("ours")]
    colours = dict(zip(ours, (OURS, "#7fb7c9"), strict=False))
    colours |= dict(zip((arm for arm in arms if arm not in ours), SHADES, strict=False))
    figure, side = plt.subplots(figsize=(8, 3.4), layout="constrained")
    width = 0.86 / len(arms)
    for place, arm in enumerate(arms):
        drawn = [(x, found[row, arm]) for x, row in enumerate(ROWS) if (row, arm) in found]
        medians = [median for _, (median, _, _) in drawn]
        below = [median - low for _, (median, low, _) in drawn]
        above = [high - median for _, (median, _, high) in drawn]
        side.bar(
            [x + place * width for x, _ in drawn],
            medians,
            width,
            yerr=(below, above),
            error_kw={"linewidth": 0.8},
            label=arm,
            color=colours[arm],
        )
    side.set_xticks([x + 0.43 - width / 2 for x in range(len(ROWS))], list(ROWS.values()))
    side.set_ylabel("tokens per CPU-second")
    figure.legend(fontsize=7, ncols=len(arms), frameon=False, loc="outside upper center")
    return save(figure, path)


def _gas(result: Result, path: Path) -> Path:
    """Gas a receipt over the receipts of an epoch, claims included, beside other ways to settle."""
    figure, side = plt.subplots(figsize=(8, 3.2), layout="constrained")
    for name, costs in result["compared"].items():
        line = {int(count): gas for count, gas in costs.items() if count.isdigit()}
        side.plot(list(line), list(line.values()), color=THEIRS, marker=".")
        last = max(line)
        side.annotate(name, (last, line[last]), (6, -2), textcoords="offset points", fontsize=7)
    own = {int(count): sum(costs.values()) for count, costs in result["gas_per_receipt"].items()}
    side.plot(list(own), list(own.values()), color=OURS, marker="o")
    last = max(own)
    side.annotate("here, all of it", (last, own[last]), (6, -2), textcoords="offset points", color=OURS)
    side.set_xscale("log")
    side.set_yscale("log")
    side.set_xlim(0.7, 20 * last)
    side.set_xticks(list(own), [f"{count:,}" for count in own])
    side.minorticks_off()
    side.set_xlabel("receipts in an epoch")
    side.set_ylabel("gas a receipt")
    return save(figure, path)


def main() -> int:
    """Write them and say where."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in (SERVING, SETTLEMENT)]
    for path in draw(*results, PICTURES):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
