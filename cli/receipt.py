"""`commonlore receipt`: what was asked here, or answered, and who earns from it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import HomeOption, JsonOption, config_of, home_at
from .printing import one_line, print_facts, print_json, print_table

app = typer.Typer(help="Receipts of the answers this peer asked for or gave.")


@app.command("list")
def list_receipts(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """The newest receipts. Each is named by its number or by how its id begins."""
    found = _listed(home, limit)
    if json:
        print_json(found)
    elif found:
        columns = ("number", "role", "state", "price", "epoch", "verified", "composition", "id")
        print_table(columns, [[receipt[name] for name in columns] for receipt in found])
    else:
        print("no receipts yet; ask something: commonlore ask QUESTION")


@app.command("show")
def show_receipt(
    receipt: Annotated[str, typer.Argument(help="A receipt's number, or its id or hash, or how one begins.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """One receipt with its credits: who earns what from the answer."""
    found = _shown(home, receipt)
    if json:
        print_json(found)
        return
    credits = found.pop("credits")
    found["merged"] = [f"{adapter} is {words}" for adapter, words in found["merged"].items()]
    print_facts(dict(_fact(name, value) for name, value in found.items()))
    if credits is not None:
        print()
        columns = ("role", "name", "account", "amount")
        print_table(columns, [[credit[name] for name in columns] for credit in credits])


def _fact(name: str, value: Any) -> tuple[str, object]:
    """As people read it: a moment is a date, in this machine's time zone."""
    if name == "created_ms":
        return "created", datetime.fromtimestamp(value / 1000).astimezone().isoformat(" ", "seconds")
    return name, one_line(value)


def _listed(home: Path | None, limit: int) -> list[dict[str, Any]]:
    """From the node that runs here, else from its store."""
    from ..peer.closed_home import read_closed_home, receipts_of
    from ..peer.gateway.control_client import ControlClient, is_running
    from ..peer.one_machine import remembering_home

    place = remembering_home(home_at(home))
    if is_running(place):
        with ControlClient(place) as client:
            listed: list[dict[str, Any]] = client.get("/receipts", limit=limit)
            return listed
    if not place.store.exists():
        return []
    return read_closed_home(place, config_of(place), lambda closed: receipts_of(closed).listed(limit))


def _shown(home: Path | None, name: str) -> dict[str, Any]:
    from ..peer.closed_home import read_closed_home, receipts_of
    from ..peer.gateway.control_client import ControlClient, is_running
    from ..peer.one_machine import remembering_home

    place = remembering_home(home_at(home))
    if is_running(place):
        with ControlClient(place) as client:
            shown: dict[str, Any] = client.get(f"/receipts/{name}")
            return shown
    return read_closed_home(place, config_of(place), lambda closed: receipts_of(closed).shown(name))
