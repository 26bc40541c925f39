"""`commonlore settle`, `claim` and `deposit`: money that the running node of this home moves."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import HomeOption, JsonOption
from .printing import print_facts, print_json, print_table
from .reach import node_of


def settle(home: HomeOption = None, json: JsonOption = False) -> None:
    """Settle this worker's lane now: redeem, post, claim.

    Workers do so by themselves, again and again.
    """
    with node_of(home) as client:
        report = client.post("/settle")
    if json:
        print_json(report)
        return
    for commitment in report["posted"]:
        print(
            f"posted epoch {commitment['epoch']}: {commitment['receipt_count']} receipts,"
            f" {commitment['receipt_sum']:,} units"
        )
    claimed = sum(claim["amount"] for claim in report["claimed"])
    print_facts({"redeemed": report["redeemed"], "claimed": claimed})
    for waiting in report["waiting"]:
        print(f"waiting: {waiting['reason']}")


def claim(home: HomeOption = None, json: JsonOption = False) -> None:
    """Claim what this home's accounts have earned."""
    with node_of(home) as client:
        paid = client.post("/claim")
    if json:
        print_json(paid)
    elif paid:
        columns = ("name", "account", "lane", "amount")
        print_table(columns, [[line[name] for name in columns] for line in paid])
    else:
        print("nothing to claim: what was earned can be claimed when its epoch is final")


def deposit(
    amount: Annotated[int, typer.Argument(min=1, help="Token units.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Move token units into escrow, to pay for answers."""
    with node_of(home) as client:
        state = client.post("/deposit", {"amount": amount})
    if json:
        print_json(state)
    else:
        print_facts(state)
