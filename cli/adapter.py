"""`commonlore adapter`: adapters that are announced, and files that might become one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .base import cache_dir
from .options import HomeOption, JsonOption, config_of, home_at
from .printing import print_facts, print_json, print_table
from .reach import node_of

app = typer.Typer(help="Adapters: who announced what, and whether a file may be served.")


@app.command("list")
def list_(home: HomeOption = None, json: JsonOption = False) -> None:
    """The adapters that are announced."""
    with node_of(home) as client:
        found = client.get("/adapters")
    if json:
        print_json(found)
    elif found:
        columns = ("alias", "heldout_loss_before", "heldout_loss_after", "id")
        print_table(columns, [[adapter[name] for name in columns] for adapter in found])
    else:
        print("no adapters are announced yet; train one with: commonlore train YOU/NAME --datanet DATANET")


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
    from ..peer.adapter_files import check_file
    from ..worker.models.importing import open_base

    chosen = base or config_of(home_at(home)).base
    facts = check_file(file, open_base(chosen, cache_dir(home)))
    told = {"file": str(facts.path), "rank": facts.rank, "targets": list(facts.targets)}
    told |= {"tensors": facts.tensors, "bytes": facts.size, "base": chosen}
    if json:
        print_json(told)
    else:
        print_facts(told)
