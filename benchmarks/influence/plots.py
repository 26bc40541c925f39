"""`python -m benchmarks.influence.plots [FILE]`: an attribution result as the pictures that docs/ has."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any

from ..drawing import OURS, PICTURES, THEIRS, begin, plt, save
from .tables import ATTACKED, RESULT


def draw(result: Mapping[str, Any], folder: Path) -> list[Path]:
    """Both pictures' files."""
    begin(folder)
    return [
        _faithful(result, folder / "attribution-lds.svg"),
        _attacks(result, folder / "attribution-attacks.svg"),
    ]


def _faithful(result: Mapping[str, Any], path: Path) -> Path:
    """LDS and pay error by method, with the standard error over seeds."""
    methods = {"ours": result["ours"], **result["peers"]}
    names = sorted(methods, key=lambda name: methods[name]["lds"])
    figure, sides = plt.subplots(1, 2, figsize=(8, 0.28 * len(names) + 1), sharey=True, layout="constrained")
    for side, what, label in zip(
        sides, ("lds", "pay_error"), ("LDS (higher is better)", "pay error (lower is better)"), strict=True
    ):
        values = [methods[name][what] for name in names]
        errors = [methods[name][f"{what}_se"] or 0.0 for name in names]
        colours = [OURS if name == "ours" else THEIRS for name in names]
        side.barh(names, values, xerr=errors, color=colours, error_kw={"linewidth": 1})
        side.set_xlabel(label)
        side.set_xlim(left=0)
    return save(figure, path)


def _attacks(result: Mapping[str, Any], path: Path) -> Path:
    """The largest change of an honest contributor's pay under each attack that was tried on several."""
    names = [name for name, tried in result["attacks"].items() if len(tried) > 1]
    methods = [name for name in ATTACKED if any(name in result["attacks"][attack] for attack in names)]
    figure, sides = plt.subplots(
        1, len(names), figsize=(8, 0.24 * len(methods) + 0.9), sharex=True, sharey=True, layout="constrained"
    )
    for side, attack in zip(sides, names, strict=True):
        tried = result["attacks"][attack]
        values = [100 * tried.get(method, {}).get("honest_change", nan) for method in methods]
        colours = [OURS if method == "ours" else THEIRS for method in methods]
        bars = side.barh(methods, values, color=colours)
        side.bar_label(bars, fmt="%.0f", padding=2, fontsize=7)
        side.set_title(attack, fontsize=9)
    sides[0].invert_yaxis()
    sides[0].set_xlim(0, 79)
    figure.supxlabel("largest change of an honest contributor's pay, % (lower is better)", fontsize=9)
    return save(figure, path)


def main(arguments: Sequence[str]) -> int:
    """Write them and say where."""
    source = Path(arguments[0]) if arguments else RESULT
    for path in draw(json.loads(source.read_text(encoding="utf-8")), PICTURES):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
