"""`commonlore simulate compare`: two results of one scenario, side by side."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import JsonOption
from .printing import print_json, print_table, say

if TYPE_CHECKING:
    from ..simulations.results.compare import Change, Comparison

Before = Annotated[Path, typer.Argument(metavar="BEFORE", help="A folder that `simulate run` wrote.")]
After = Annotated[Path, typer.Argument(metavar="AFTER", help="Another one.")]
MOST_TOLD = 8


def compare(
    before: Before,
    after: After,
    all_: Annotated[bool, typer.Option("--all", help="Differences within chance too.")] = False,
    json: JsonOption = False,
) -> None:
    """What changed between two results of one scenario: the differences that are clear (95 % intervals of the
    differences, seed by seed)."""
    from ..simulations.results.compare import compare as compare_folders

    found = compare_folders(before, after)
    shown = [change for change in found.changes if all_ or change.is_clear]
    if json:
        print_json([asdict(change) | {"is_clear": change.is_clear} for change in shown])
        return
    _say_some("settings that differ", found.settings)
    _say_some("not compared, since only one side has them", found.left_out)
    if shown:
        columns = ("arm", "figure", "before", "after", "difference", "95 % interval", "change", "seeds")
        print_table(columns, [_row(change) for change in shown])
    say(_summed_up(found, len(shown)))


def _summed_up(found: Comparison, shown: int) -> str:
    if not found.changes:
        return f"all {found.compared} figures are the same"
    clear = sum(change.is_clear for change in found.changes)
    text = f"{found.compared} figures compared, {len(found.changes)} differ, {clear} clearly"
    if found.seeds == 1:
        text += "; a single seed says nothing of chance: run more --seeds"
    else:
        text += f" (about {found.by_chance:.0f} would by chance alone)"
    hidden = len(found.changes) - shown
    return f"{text}; --all shows {hidden} more" if hidden else text


def _say_some(what: str, items: tuple[str, ...]) -> None:
    if items:
        more = f", and {len(items) - MOST_TOLD} more" if len(items) > MOST_TOLD else ""
        say(f"{what}: {', '.join(items[:MOST_TOLD])}{more}")


def _row(change: Change) -> tuple[object, ...]:
    low, high = change.difference.low, change.difference.high
    numbers = (change.before, change.after, change.difference.mean)
    return (
        change.arm,
        change.figure,
        *(f"{each:.6g}" for each in numbers),
        f"{low:.4g} … {high:.4g}" if change.seeds > 1 else "",
        "" if change.relative is None else f"{change.relative:+.1%}",
        change.seeds,
    )
