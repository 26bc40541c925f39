"""`commonlore simulate`: the real scheduler and receipts over modelled workers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import JsonOption
from .printing import print_json, print_table, say
from .progress import bars

if TYPE_CHECKING:
    from ..simulations.results import Summary
    from ..simulations.run import Files
    from ..simulations.scenario import Experiment

app = typer.Typer(help="Simulate a network: the real scheduler and receipts over modelled workers.")
COLUMNS = ("arm", "seed", "asks", "completed", "goodput", "ttft_p50_ms", "ttft_p99_ms", "hit_rate", "volume")


@app.command()
def run(
    scenario: Annotated[str, typer.Argument(help="A .toml file, or a packaged name: see `simulate list`.")],
    seed: Annotated[int | None, typer.Option(min=0, help="One seed.")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="0-9", help="Several, such as 0-9 or 1,4,8.")] = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where results are written.")] = Path("results"),
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    json: JsonOption = False,
) -> None:
    """Run every arm of a scenario with every seed; write CSV, a manifest and a plot. The same seed gives the
    same files, byte for byte.
    """
    from ..simulations.run import parse_seeds, run_seeds
    from ..simulations.scenario import load_experiment, scenario_path

    if seed is not None and seeds is not None:
        raise typer.BadParameter("give either --seed or --seeds")
    chosen = parse_seeds(seeds) if seeds is not None else (seed or 0,)
    experiment = load_experiment(scenario_path(scenario))
    with bars() as advance:
        stage = f"{len(experiment.arms)} arms x {len(chosen)} seeds"
        files = run_seeds(experiment, chosen, out, jobs, lambda done, of, _: advance(stage, done, of))
    _show([arm.summary for result in files.results for arm in result.arms], json)
    say(f"written: {files.summary}, {files.manifest}, {_plot(experiment, files, out / 'plot.png')}")


@app.command("list")
def list_(json: JsonOption = False) -> None:
    """The scenarios that come with the package."""
    from ..simulations.scenario import load_experiment, scenario_names, scenario_path

    found = [load_experiment(scenario_path(name)) for name in scenario_names()]
    rows = [
        {"name": name, "arms": len(each.arms), "about": each.about}
        for name, each in zip(scenario_names(), found, strict=True)
    ]
    if json:
        print_json(rows)
    else:
        print_table(("name", "arms", "about"), [tuple(row.values()) for row in rows])


def _plot(experiment: Experiment, files: Files, path: Path) -> str:
    """Draw the results; without matplotlib they stand in the CSV files all the same."""
    from ..protocol.errors import MissingDependency
    from ..simulations.plot import draw

    try:
        draw(experiment, files.results, path)
    except MissingDependency as error:
        return f"no plot ({error})"
    return str(path)


def _show(summaries: list[Summary], as_json: bool) -> None:
    if as_json:
        print_json([asdict(summary) for summary in summaries])
    else:
        print_table(COLUMNS, [[getattr(summary, name) for name in COLUMNS] for summary in summaries])
