"""`commonlore simulate`: the real scheduler and receipts over modelled workers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .ending import Terminated, ended_by_signals
from .grouped import takes_groups
from .options import JsonOption
from .printing import print_json, print_table, say
from .progress import bars
from .simulate_compare import compare
from .simulate_lists import keys, list_
from .simulate_options import ChoiceOptions, MachineOptions, PlaceOptions, one_of

if TYPE_CHECKING:
    from ..simulations.results.files import Files, Sweep
    from ..simulations.sweep.pool import Pool

app = typer.Typer(help="Simulate a network: the real scheduler and receipts over modelled workers.")
app.command("list")(list_)
app.command()(keys)
app.command()(compare)
MOST_PRINTED = 40


@app.command()
@takes_groups
def run(
    *,
    scenario: Annotated[str, typer.Argument(help="A .toml file, or a packaged name: see `simulate list`.")],
    choice: ChoiceOptions,
    place: PlaceOptions,
    machines: MachineOptions,
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
    from ..simulations.experiment.scenario import load_experiment, parse_overrides, scenario_path
    from ..simulations.results.files import Sweep
    from ..simulations.results.formats import FORMATS

    seeds, pool = choice.chosen_seeds(), machines.pool()
    one_of("--format", form, FORMATS)
    experiment = load_experiment(scenario_path(scenario), parse_overrides(choice.settings))
    sweep = Sweep(experiment, seeds, place.out or Path("results") / experiment.name, form)
    _finish(sweep, _run(sweep, pool, fresh=place.fresh), json)


def _compile() -> None:
    """Before anything of the scheduler is imported."""
    from ..simulations.compiled.switch import home, switch_on

    if not home().is_dir():
        say("compiling the scheduler and the simulator, once: this takes about a minute")
    switch_on()


def _run(sweep: Sweep, pool: Pool, *, fresh: bool) -> Files:
    """Run it with a bar; whoever ends it, or has no room left on the disk, is told how to go on."""
    from ..simulations.sweep.run import run_sweep

    stage, done = f"{len(sweep.experiment.arms)} arms x {len(sweep.seeds)} seeds", 0
    try:
        with ended_by_signals(), bars() as advance:

            def report(ended: int, whole: int, which: str) -> None:
                nonlocal done
                done = ended
                advance(stage, ended, whole, which)

            return run_sweep(sweep, pool, report, fresh=fresh)
    except (KeyboardInterrupt, Terminated, OSError) as ended:
        if done or not isinstance(ended, OSError):
            say(f"stopped: {done} of {sweep.size} runs are kept in {sweep.folder}; the same command goes on")
        raise


def _finish(sweep: Sweep, files: Files, as_json: bool) -> None:
    """Print what came out; failures end the command with 1."""
    from ..simulations.results.report import write_pictures

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
