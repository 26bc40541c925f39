"""`commonlore simulate compare`: two results of one scenario, side by side."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import JsonOption
from .printing import print_json, print_table, say

if TYPE_CHECKING:
    from ..simulations.compare import Change

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="What `simulate run --out` wrote.")]


def compare(
    before: Folder,
    after: Folder,
    all_: Annotated[bool, typer.Option("--all")] = False,
    json: JsonOption = False,
) -> None:
    """What changed between two results of one scenario: clear differences (95 %), seed by seed; `--all`: the
    others too."""
    from ..simulations.compare import compare as compare_folders

    changes = compare_folders(before, after)
    shown = changes if all_ else [change for change in changes if change.is_clear]
    if json:
        print_json([asdict(change) | {"is_clear": change.is_clear} for change in shown])
        return
    columns = ("arm", "figure", "before", "after", "difference", "95 % interval", "seeds")
    if shown:
        print_table(columns, [_row(change) for change in shown])
    say(f"{len(shown)} of {len(changes)} differences shown; clear: {sum(each.is_clear for each in changes)}")


def _row(change: Change) -> tuple[object, ...]:
    low, high = change.difference.low, change.difference.high
    numbers = (change.before, change.after, change.difference.mean)
    return (
        change.arm,
        change.figure,
        *(f"{each:.6g}" for each in numbers),
        f"{low:.4g} … {high:.4g}",
        change.seeds,
    )
