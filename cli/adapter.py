"""`commonlore adapter`: adapters that are announced, and files that might become one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from . import completing
from .base_models import cache_dir
from .ending import ended_by_signals
from .grouped import takes_groups
from .options import HomeOption, JsonOption, config_of, home_at
from .printing import fact, print_facts, print_json, print_table
from .progress import bars
from .reach import node_of

_STAGES = {"fetching": "fetching the adapters", "merging": "merging, linear by linear"}

app = typer.Typer(help="Adapters: who announced what, and whether a file may be served.")


@app.command("list")
def list_(home: HomeOption = None, json: JsonOption = False) -> None:
    """The adapters that are announced."""
    with node_of(home) as client:
        found = client.get("/adapters")
    if json:
        print_json(found)
    elif found:
        columns = ("alias", "heldout_loss_before", "heldout_loss_after", "merged", "id")
        print_table(columns, [[_cell(name, adapter[name]) for name in columns] for adapter in found])
    else:
        print("no adapters are announced yet; train one with: commonlore train YOU/NAME --datanet DATANET")


def _cell(name: str, value: Any) -> Any:
    """Nobody measures a merge, and small Datanets leave no rows to measure with: that is no loss of 0."""
    return "not measured" if name.startswith("heldout_loss") and value is None else value


@app.command()
def show(
    adapter: Annotated[
        str, typer.Argument(help="An adapter by name or id.", autocompletion=completing.adapters)
    ],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """One adapter: what its manifest commits, and of what it was merged."""
    with node_of(home) as client:
        found = client.get(f"/adapters/{adapter}")
    if json:
        print_json(found)
    else:
        print_facts(dict(fact(name, value) for name, value in found.items() if name != "merge"))


@dataclass(frozen=True, slots=True)
class MergeOrder:
    """What is to be merged, and how."""

    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="What the merged adapter is called.")]
    adapter: Annotated[
        list[str],
        typer.Option(
            "--adapter",
            "-a",
            metavar="OWNER/NAME[=WEIGHT]",
            help="Two to eight, equally or by weights up to 10. Repeatable.",
            autocompletion=completing.adapters,
        ),
    ]
    method: Annotated[
        str,
        typer.Option(
            help="linear, cat, svd, ties, dare_linear, dare_ties; "
            "cat, svd, and ties_svd, dare_linear_svd, dare_ties_svd take adapters of any shape."
        ),
    ] = "linear"
    density: Annotated[
        str | None, typer.Option(help="What ties and dare keep of each adapter, up to 1; default: 0.5.")
    ] = None
    seed: Annotated[int | None, typer.Option(min=0, help="Of what dare drops; default: 1.")] = None
    rank: Annotated[
        int | None, typer.Option(help="What the svd methods keep; default: the adapters' highest.")
    ] = None
    licence: Annotated[str, typer.Option(help="The merged adapter's; default: the adapters' own.")] = ""

    def body(self) -> dict[str, Any]:
        """As the node takes it. Raises ConfigError."""
        from ..peer.asking.composition import read_ppm, read_weighted

        return {
            "name": self.name,
            "adapters": [{"name": part, "weight_ppm": ppm} for part, ppm in read_weighted(self.adapter)],
            "method": self.method,
            "licence": self.licence,
            "density_ppm": None if self.density is None else read_ppm(self.density, "the density"),
            "seed": self.seed,
            "rank": self.rank,
        }


@app.command()
@takes_groups
def merge(order: MergeOrder, home: HomeOption = None, json: JsonOption = False) -> None:
    """Make one adapter out of several, without training, and announce it."""
    done: dict[str, Any] = {}
    with ended_by_signals(), node_of(home) as client, bars() as advance:
        for line in client.stream("/merge", order.body()):
            done = line.get("done", done)
            update = line.get("progress", {})
            if update.get("phase") in _STAGES:
                advance(_STAGES[update["phase"]], update["step"], update["steps"])
    if json:
        print_json(done)
    else:
        print_facts({"adapter": done["alias"], "id": done["adapter"], "rank": done["rank"]})


@app.command()
def faithfulness(
    adapter: Annotated[
        str, typer.Argument(help="An adapter by name or id.", autocompletion=completing.adapters)
    ],
    subsets: Annotated[
        int | None, typer.Option(min=4, max=1000, help="Halves of its rows to train on; default: 6.")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(min=4, max=4096, help="Indexed rows that the halves are of; default: 24.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Of each training; default: as many as meet each row twice.")
    ] = None,
    queries: Annotated[
        int | None, typer.Option(min=2, max=1000, help="Rows that none was trained on; default: 10.")
    ] = None,
    announce: Annotated[
        bool,
        typer.Option("--announce", help="Say so to the network, under this peer's seal."),
    ] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Measure how well an adapter's attribution predicts training again, against chance.

    `train` does it for whoever trains. This measures again what an author announced, as much unless told
    otherwise. Only an adapter whose author announces it to be above chance pays its contributors by its
    scores; what others announce is shown beside it and pays nothing. Ends with 1 where what is found is
    further from what the author announced than both errors explain.
    """
    from ..peer.attribution.faithfulness_command import announce_found, describe, measure_here

    given = {"subsets": subsets, "rows": rows, "steps": steps, "queries": queries}
    wanted = {name: count for name, count in given.items() if count is not None}
    with ended_by_signals(), bars() as advance:
        found, announced = measure_here(
            home_at(home), adapter, wanted, lambda at, of: advance("training on half of the rows", at, of)
        )
    shown = describe(found, announced)
    if announce:
        with node_of(home) as client:
            shown |= announce_found(client, found)
    if json:
        print_json(shown)
    else:
        print_facts(shown)
    raise typer.Exit(0 if shown.get("by_author") or shown.get("agrees_with_author", True) else 1)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="A .safetensors file, or a folder as peft saves it.")],
    base: Annotated[
        str | None, typer.Option(help="The base it was made for; default: the configured.")
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Judge an adapter file as every worker will: format, names, shapes, numbers. Changes nothing."""
    from ..peer.training.adapter_files import check_file
    from ..worker.models.importing import open_base

    chosen = base or config_of(home_at(home)).base
    facts = check_file(file, open_base(chosen, cache_dir(home)))
    told = {"file": str(facts.path), "rank": facts.rank, "targets": list(facts.targets)}
    told |= {"tensors": facts.tensors, "bytes": facts.size, "base": chosen}
    if json:
        print_json(told)
    else:
        print_facts(told)
