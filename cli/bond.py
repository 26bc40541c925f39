"""`commonlore bond`: what this home's owner can lose, by role."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import ChainOption, DeploymentOption, HomeOption, JsonOption, config_of, home_at, keystore_of
from .printing import print_facts, print_json, print_table

if TYPE_CHECKING:
    from ..contracts.calling.transactions import Sent
    from ..contracts.client.bonding import BondRole
    from ..contracts.client.chain import ChainClient

app = typer.Typer(
    help="Bonds: what an account can lose as a worker, poster, contributor, auditor or attributor."
)
RoleArgument = Annotated[str, typer.Argument(help="worker, poster, contributor, auditor, attributor.")]
AmountArgument = Annotated[int, typer.Argument(min=1, help="Token units.")]


@app.command()
def show(
    chain_url: ChainOption = None,
    deployment: DeploymentOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """The owner's bonds."""
    from ..peer.local.one_machine import running_home
    from ..peer.settling.bond_orders import owner_client, read_bonds

    place = running_home(home_at(home))
    config = config_of(place, chain_url=chain_url, deployment=deployment)
    with owner_client(config, keystore_of(place)) as client:
        found = read_bonds(client)
    columns = ("role", "amount", "thawing", "thaws_at", "frozen")
    if json:
        print_json(found)
    elif found:
        print_table(columns, [[bond[name] for name in columns] for bond in found])
    else:
        print("no bonds; to check answers and be paid for it: commonlore bond add attributor AMOUNT")


@app.command()
def add(
    role: RoleArgument,
    amount: AmountArgument,
    chain_url: ChainOption = None,
    deployment: DeploymentOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Bond token units in a role. A bond that is added to counts as one of today."""
    _send(lambda client, which: client.bonds.bond(which, amount), role, (chain_url, deployment, home), json)


@app.command()
def thaw(
    role: RoleArgument,
    amount: Annotated[int, typer.Argument(min=0, help="Token units; 0 takes the notice back.")],
    chain_url: ChainOption = None,
    deployment: DeploymentOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Give notice that token units of a bond shall leave; they stop counting at once."""
    _send(lambda client, which: client.bonds.thaw(which, amount), role, (chain_url, deployment, home), json)


@app.command()
def withdraw(
    role: RoleArgument,
    chain_url: ChainOption = None,
    deployment: DeploymentOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Take out what of a bond has thawed."""
    _send(lambda client, which: client.bonds.withdraw(which), role, (chain_url, deployment, home), json)


def _send(
    order: Callable[[ChainClient, BondRole], Sent],
    role: str,
    where: tuple[str | None, str | None, Path | None],
    json: bool,
) -> None:
    """Send one transaction about a role's bond, and tell what is bonded after it."""
    from ..peer.local.one_machine import running_home
    from ..peer.settling.bond_orders import owner_client, read_bonds, role_named

    which, (chain_url, deployment, home) = role_named(role), where
    place = running_home(home_at(home))
    config = config_of(place, chain_url=chain_url, deployment=deployment)
    with owner_client(config, keystore_of(place)) as client:
        sent = order(client, which)
        bonds = [bond for bond in read_bonds(client) if bond["role"] == role]
    told = {"transaction": sent.text, **(bonds[0] if bonds else {"role": role, "amount": 0})}
    print_json(told) if json else print_facts(told)
