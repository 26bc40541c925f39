"""`commonlore receipt`: what was asked here, or answered, and who earns from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .ending import Terminated, ended_by_signals
from .explaining import explain
from .options import HomeOption, JsonOption, config_of, home_at
from .printing import fact, harmless, print_facts, print_json, print_table, say
from .progress import bars

if TYPE_CHECKING:
    from ..peer.attribution.findings import Finding
    from ..peer.attribution.receipt_check import CheckOptions, Gathered
    from ..peer.home import Home
    from ..protocol.errors import CommonloreError

app = typer.Typer(help="Receipts of the answers this peer asked for or gave.")
app.command("explain")(explain)


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
    print_facts(dict(fact(name, value) for name, value in found.items()))
    if credits is not None:
        print()
        columns = ("role", "name", "account", "amount")
        print_table(columns, [[credit[name] for name in columns] for credit in credits])


@app.command()
def verify(
    receipt: Annotated[str, typer.Argument(help="A receipt's number, or its id or hash, or how one begins.")],
    level: Annotated[
        int,
        typer.Option(
            min=0,
            max=3,
            help="0: signatures and sums. 1: the integers, bit for bit. 2: the answer's own gradient. "
            "3: training again without each contributor.",
        ),
    ] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Of each retraining at most (level 3).")] = 12,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Check a receipt's attribution; each level says what it showed and what it did not.

    What is missing here is fetched where a node runs. Level 3 takes minutes on a real base; stopped, the same
    command goes on where it was. Ends with 1 where something is wrong.
    """
    from ..peer.attribution.receipt_check import CheckOptions
    from ..peer.gateway.views import id_of, plain
    from ..peer.local.one_machine import remembering_home

    place, options = remembering_home(home_at(home)), CheckOptions(receipt, level, steps)
    gathered = _gathered(place, options)
    findings, ended = _carried_out(place, gathered, options, show=not json)
    passed = ended is None and all(finding.passed for finding in findings)
    if json:
        named = {"receipt": id_of(gathered.parts[0].stored.signed), "passed": passed}
        print_json(named | {"levels": plain(findings), "ended": None if ended is None else str(ended)})
    if ended is not None:
        raise ended
    raise typer.Exit(0 if passed else 1)


def _gathered(place: Home, options: CheckOptions) -> Gathered:
    """What a check reads, fetched by a node that runs here. What that could not fetch, and why, it knows
    best."""
    from ..peer.attribution.receipt_check import read_as_far
    from ..peer.gateway.control_client import ControlClient, is_running
    from ..protocol.errors import CommonloreError

    unfetched: CommonloreError | None = None
    if is_running(place):
        try:
            with ControlClient(place) as client:
                client.get(f"/receipts/{options.name}/evidence", level=options.level)
        except CommonloreError as error:
            unfetched = error
    found = read_as_far(place, config_of(place), options)
    lacks = found.lacking is not None and unfetched is not None
    return replace(found, lacking=unfetched) if lacks else found


def _carried_out(
    place: Home, gathered: Gathered, options: CheckOptions, *, show: bool
) -> tuple[list[Finding], CommonloreError | None]:
    """What the levels found, and what ended them early."""
    from ..peer.attribution.receipt_check import check
    from ..protocol.errors import CommonloreError

    findings: list[Finding] = []
    with ended_by_signals(), bars() as advance:
        try:
            for finding in check(place, config_of(place), gathered, options, advance):
                findings.append(finding)
                if show:
                    _print_finding(finding)
        except CommonloreError as error:
            return findings, error
        except (KeyboardInterrupt, Terminated):
            say("stopped; the same command goes on where it was")
            raise
    return findings, None


def _print_finding(finding: Finding) -> None:
    print(f"level {finding.level}: {'passed' if finding.passed else 'NOT PASSED'}")
    for sentence in finding.showed:
        print(f"  {harmless(sentence)}")
    for sentence in finding.not_shown:
        print(f"  not shown: {sentence}")


def _listed(home: Path | None, limit: int) -> list[dict[str, Any]]:
    """From the node that runs here, else from its store."""
    from ..peer.closed_home import read_closed_home, receipts_of
    from ..peer.gateway.control_client import ControlClient, is_running
    from ..peer.local.one_machine import remembering_home

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
    from ..peer.local.one_machine import remembering_home

    place = remembering_home(home_at(home))
    if is_running(place):
        with ControlClient(place) as client:
            shown: dict[str, Any] = client.get(f"/receipts/{name}")
            return shown
    return read_closed_home(place, config_of(place), lambda closed: receipts_of(closed).shown(name))
