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
    from ..simulations.compare import Change
    from ..simulations.run import Files
    from ..simulations.scenario import Experiment

app = typer.Typer(help="Simulate a network: the real scheduler and receipts over modelled workers.")
MOST_PRINTED = 40
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="What `simulate run --out` wrote.")]


@app.command()
def run(
    scenario: Annotated[str, typer.Argument(help="A .toml file, or a packaged name: see `simulate list`.")],
    seed: Annotated[int | None, typer.Option(min=0, help="One seed.")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="0-9", help="Several, such as 0-9 or 1,4,8.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("-p", "--parameter", metavar="KEY=VALUE", help="Set a key; several values sweep it."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where results are written.")] = Path("results"),
    jobs: Annotated[int, typer.Option(min=1, help="Runs at once.")] = 1,
    backend: Annotated[str, typer.Option(help="processes, loky, dask or ray.")] = "processes",
    cluster: Annotated[str, typer.Option(metavar="ADDRESS", help="A running Dask or Ray cluster's.")] = "",
    form: Annotated[str, typer.Option("--format", help="Of the tables: csv or parquet.")] = "csv",
    json: JsonOption = False,
) -> None:
    """Run every arm of a scenario with every seed; write tables, a manifest, a plot and a report. The same
    seed gives the same files, byte for byte.
    """
    from ..simulations.pool import BACKENDS, Pool
    from ..simulations.results import FORMATS
    from ..simulations.run import parse_seeds, run_seeds
    from ..simulations.scenario import load_experiment, parse_overrides, scenario_path

    if seed is not None and seeds is not None:
        raise typer.BadParameter("give either --seed or --seeds")
    _one_of("--backend", backend, BACKENDS)
    _one_of("--format", form, FORMATS)
    chosen = parse_seeds(seeds) if seeds is not None else (seed or 0,)
    experiment = load_experiment(scenario_path(scenario), parse_overrides(set_ or []))
    with bars() as advance:
        stage = f"{len(experiment.arms)} arms x {len(chosen)} seeds"
        pool = Pool(jobs, backend, cluster)
        files = run_seeds(experiment, chosen, out, pool, lambda done, of, _: advance(stage, done, of), form)
    _show(experiment, files, json)
    say(f"written: {files.summary}, {files.manifest}, {_picture(experiment, files, out)}")


@app.command()
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


@app.command("list")
def list_(json: JsonOption = False) -> None:
    """The scenarios that come with the package."""
    from ..simulations.scenario import load_experiment, scenario_names, scenario_path

    found = [load_experiment(scenario_path(name)) for name in scenario_names()]
    rows = [
        {"name": name, "kind": each.kind.name, "arms": len(each.arms), "about": each.about}
        for name, each in zip(scenario_names(), found, strict=True)
    ]
    if json:
        print_json(rows)
    else:
        print_table(("name", "kind", "arms", "about"), [tuple(row.values()) for row in rows])


def _one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise typer.BadParameter(f"{option} is {value!r}; choose one of: {', '.join(known)}")


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


def _picture(experiment: Experiment, files: Files, out: Path) -> str:
    """Draw the results and write the report; without matplotlib they stand in the tables all the same."""
    from ..protocol.errors import MissingDependency
    from ..simulations.plot import draw
    from ..simulations.report import write_report

    plot, report = out / "plot.png", out / "report.html"
    try:
        draw(experiment, files.results, plot)
    except MissingDependency as error:
        write_report(experiment, files.results, files.manifest, None, report)
        return f"{report}, no plot ({error})"
    write_report(experiment, files.results, files.manifest, plot, report)
    return f"{plot}, {report}"


def _show(experiment: Experiment, files: Files, as_json: bool) -> None:
    rows = [arm.row for result in files.results for arm in result.arms]
    if as_json:
        print_json(rows)
        return
    columns = ("arm", "seed", *experiment.kind.columns)
    print_table(columns, [[row.get(name, "") for name in columns] for row in rows[:MOST_PRINTED]])
    if len(rows) > MOST_PRINTED:
        say(f"{len(rows) - MOST_PRINTED} more rows are in {files.summary}")
