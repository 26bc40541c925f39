"""`commonlore receipt`: what was asked here, or answered, and who earns from it."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import HomeOption, JsonOption
from .printing import one_line, print_facts, print_json, print_table
from .reach import node_of

app = typer.Typer(help="Receipts of the answers this peer asked for or gave.")


@app.command("list")
def list_receipts(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """The newest receipts."""
    with node_of(home) as client:
        found = client.get("/receipts", limit=limit)
    if json:
        print_json(found)
    elif found:
        columns = ("number", "role", "state", "price", "epoch", "verified", "composition", "id")
        print_table(columns, [[receipt[name] for name in columns] for receipt in found])
    else:
        print("no receipts yet; ask something: commonlore ask QUESTION")


@app.command("show")
def show_receipt(
    receipt: Annotated[str, typer.Argument(help="A receipt's id or hash.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """One receipt with its credits: who earns what from the answer."""
    with node_of(home) as client:
        found = client.get(f"/receipts/{receipt}")
    if json:
        print_json(found)
        return
    credits = found.pop("credits")
    found["merged"] = [f"{adapter} is {words}" for adapter, words in found["merged"].items()]
    print_facts({name: one_line(value) for name, value in found.items()})
    if credits is not None:
        print()
        columns = ("role", "name", "account", "amount")
        print_table(columns, [[credit[name] for name in columns] for credit in credits])
