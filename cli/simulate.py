"""`commonlore simulate`: the real scheduler and receipts over modelled workers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .ending import Terminated, ended_by_signals
from .options import JsonOption
from .printing import print_json, print_table, say
from .progress import bars
from .simulate_compare import compare
from .simulate_lists import keys, list_

if TYPE_CHECKING:
    from ..simulations.files import Files, Sweep
    from ..simulations.pool import Pool

app = typer.Typer(help="Simulate a network: the real scheduler and receipts over modelled workers.")
app.command("list")(list_)
app.command()(keys)
app.command()(compare)
MOST_PRINTED = 40


@app.command()
def run(
    scenario: Annotated[str, typer.Argument(help="A .toml file, or a packaged name: see `simulate list`.")],
    seed: Annotated[int | None, typer.Option(min=0, help="One seed.")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="0-9", help="Several, such as 0-9 or 1,4,8.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("-p", "--parameter", metavar="KEY=VALUE", help="Set a key; several values sweep it."),
    ] = None,
    driver: Annotated[
        str | None, typer.Option(help="Of kind service: kernel (models), virtual (real peers), or both: a,b.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where results are written; results/SCENARIO without it."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete what another sweep left in that folder.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs at once; without it one, or all of a cluster.")
    ] = None,
    backend: Annotated[str, typer.Option(help="processes, loky, dask or ray.")] = "processes",
    cluster: Annotated[str, typer.Option(metavar="ADDRESS", help="A running Dask or Ray cluster's.")] = "",
    form: Annotated[str, typer.Option("--format", help="Of the tables: csv or parquet.")] = "csv",
    compiled: Annotated[
        bool, typer.Option("--compiled", help="Compile the scheduler first: the same files, sooner.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Run every arm of a scenario with every seed; write tables, a manifest, a plot and a report. The same
    seed gives the same files, byte for byte.

    Each run is kept as it ends: after Ctrl-C or a failure the same command goes on with the rest.
    """
    if compiled:
        _compile()
    from ..simulations.files import Sweep
    from ..simulations.pool import BACKENDS, Pool
    from ..simulations.results import FORMATS
    from ..simulations.run import parse_seeds
    from ..simulations.scenario import load_experiment, parse_overrides, scenario_path

    if seed is not None and seeds is not None:
        raise typer.BadParameter("give either --seed or --seeds")
    _one_of("--backend", backend, BACKENDS)
    _one_of("--format", form, FORMATS)
    chosen = parse_seeds(seeds) if seeds is not None else (seed or 0,)
    settings = [*(set_ or []), *([] if driver is None else [f"driver={driver}"])]
    experiment = load_experiment(scenario_path(scenario), parse_overrides(settings))
    sweep = Sweep(experiment, chosen, out or Path("results") / experiment.name, form)
    _finish(sweep, _run(sweep, Pool(jobs, backend, cluster), fresh=fresh), json)


def _compile() -> None:
    """Before anything of the scheduler is imported."""
    from ..simulations.compiled import home, switch_on

    if not home().is_dir():
        say("compiling the scheduler and the simulator, once: this takes about a minute")
    switch_on()


def _one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise typer.BadParameter(f"{option} is {value!r}; choose one of: {', '.join(known)}")


def _run(sweep: Sweep, pool: Pool, *, fresh: bool) -> Files:
    """Run it with a bar; whoever ends it is told how to go on."""
    from ..simulations.run import run_sweep

    stage, done = f"{len(sweep.experiment.arms)} arms x {len(sweep.seeds)} seeds", 0
    try:
        with ended_by_signals(), bars() as advance:

            def report(ended: int, whole: int, which: str) -> None:
                nonlocal done
                done = ended
                advance(stage, ended, whole, which)

            return run_sweep(sweep, pool, report, fresh=fresh)
    except (KeyboardInterrupt, Terminated):
        say(f"stopped: {done} of {sweep.size} runs are kept in {sweep.folder}; the same command goes on")
        raise


def _finish(sweep: Sweep, files: Files, as_json: bool) -> None:
    """Print what came out; failures end the command with 1."""
    from ..simulations.report import write_pictures

    _show(sweep, files, as_json)
    if files.results:
        pictures = write_pictures(sweep.experiment, files)
        say(f"written: {files.summary}, {files.manifest}, {pictures}")
    for failure in files.failed:
        say(f"failed: {failure.arm}, seed {failure.seed}: {failure.reason}")
    if files.failed:
        where = sweep.folder / "failed.csv"
        say(f"{len(files.failed)} of {sweep.size} runs failed ({where}); the same command tries them again")
        raise typer.Exit(1)


def _show(sweep: Sweep, files: Files, as_json: bool) -> None:
    rows = [arm.row for result in files.results for arm in result.arms]
    if as_json:
        print_json(rows)
        return
    columns = ("arm", "seed", *sweep.experiment.kind.columns)
    print_table(columns, [[row.get(name, "") for name in columns] for row in rows[:MOST_PRINTED]])
    if len(rows) > MOST_PRINTED:
        say(f"{len(rows) - MOST_PRINTED} more rows are in {files.summary}")
