"""`commonlore receipt explain`: an answer's contributors, rows and words, and a picture of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import HomeOption, JsonOption, config_of, home_at
from .printing import harmless, one_line, print_facts, print_json, print_table, say

if TYPE_CHECKING:
    from ..peer.attribution.explaining import Explanation


def explain(
    receipt: Annotated[str, typer.Argument(help="A receipt's number, or its id or hash, or how one begins.")],
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it, as .png or .svg (needs matplotlib).")
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Why a receipt pays whom: contributors by channel, rows that stand out, and shared words as evidence.

    What is missing here is fetched where a node runs, and named where it cannot be had.
    """
    from ..peer.attribution.explain_command import explain_receipt
    from ..peer.gateway.control_client import ControlClient, is_running
    from ..peer.gateway.views import id_of, plain
    from ..peer.local.one_machine import remembering_home
    from ..protocol.errors import CommonloreError

    place = remembering_home(home_at(home))
    if is_running(place):
        with ControlClient(place) as client:
            try:
                client.get(f"/receipts/{receipt}/evidence", level=2)
            except CommonloreError as error:
                say(f"not everything could be fetched: {error}")
    stored, found = explain_receipt(place, config_of(place), receipt)
    told = {"receipt": id_of(stored.signed), **plain(found)}
    if plot is not None:
        from ..peer.attribution.explain_plot import draw

        draw(found, told["receipt"], plot)
    if json:
        print_json(told)
    else:
        _print(told, found)
        if plot is not None:
            say(f"drawn: {plot}")


def _print(told: dict[str, Any], found: Explanation) -> None:
    print_facts({"receipt": told["receipt"], "method": found.method, "confidence": found.confidence})
    adapters = {part["adapter"] for part in told["contributors"]}
    names = ("channel", "name", "payee", "ppm", "amount", *["adapter"] * (len(adapters) > 1))
    parts = [[part[name] for name in names] for part in told["contributors"]]
    _table("contributors", tuple("account" if name == "payee" else name for name in names), parts)
    rows = [[part["sigma"], part["name"], part["row"][:14], _says(part)] for part in told["rows"]]
    _table("rows that stand out, in standard deviations", ("sigma", "name", "row", "says"), rows)
    shown = [[part["nats"], part["name"], part["row"][:14], _says(part)] for part in told["prompt_rows"]]
    _table("rows in the prompt, by how likely they made the answer", ("nats", "name", "row", "says"), shown)
    tools = [[each["nats"], each["name"], each["part"][:14], _called(each)] for each in told["tools"]]
    _table("what tools gave back: recorded, not paid", ("nats", "tool", "hash", "says"), tools)
    spans = [
        [span["bits"], span["places"], span["name"], span["row"][:14], span["text"][:80]]
        for span in told["spans"]
    ]
    _table("words shared with rows: evidence, not paid", ("bits", "places", "name", "row", "words"), spans)
    for sentence in found.missing:
        print(f"\nnot shown: {harmless(sentence)}")


def _table(title: str, columns: tuple[str, ...], rows: list[list[object]]) -> None:
    if rows:
        print(f"\n{title}")
        print_table(columns, rows)


def _called(part: dict[str, Any]) -> str:
    return str(one_line(f"{part['arguments']} {part['result']}"))[:80]


def _says(part: dict[str, Any]) -> str:
    return str(one_line(f"{part['question']} {part['answer']}"))[:80]
