"""`commonlore settle`, `claim`, `deposit`, `faucet`: money that a node moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .options import ChainOption, DeploymentOption, HomeOption, JsonOption, config_of, home_at, keystore_of
from .printing import harmless, print_facts, print_json, print_table, say
from .reach import node_of
from .status import purse

if TYPE_CHECKING:
    from ..peer.home import Home

GAS_WEI = 10 * 10**18


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
        print(harmless(f"waiting: {waiting['reason']}"))


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
    chain_url: ChainOption = None,
    deployment: DeploymentOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Move token units into escrow, to pay for answers: through the node that runs in this home, else by its
    keys alone.
    """
    from ..peer.gateway.control_client import ControlClient, is_running
    from ..peer.local.one_machine import running_home
    from ..peer.settling.depositing import deposit_alone

    place = running_home(home_at(home))
    if is_running(place):
        with ControlClient(place) as client:
            state = client.post("/deposit", {"amount": amount})
    else:
        config = config_of(place, chain_url=chain_url, deployment=deployment)
        state = deposit_alone(place, config, keystore_of(place), amount)
    if json:
        print_json(state)
    else:
        print_facts({"owner": state["owner"], **purse(state)})


def faucet(
    account: Annotated[str | None, typer.Argument(help="0x…; default: the owner of this home.")] = None,
    tokens: Annotated[int, typer.Option(min=0, help="Token units.")] = 1_000_000,
    chain_url: ChainOption = None,
    home: HomeOption = None,
) -> None:
    """Give an account play money and gas; only a development chain has this."""
    from ..contracts.calling.endpoint import Endpoint
    from ..contracts.embedded.controls import fund
    from ..peer.local.one_machine import running_home
    from ..protocol.ids import checksummed, to_address

    place = running_home(home_at(home))
    target = to_address(account) if account else None
    endpoint = Endpoint(_chain_of(place, chain_url), patience_s=3)
    target = target or keystore_of(place).own().owner.address
    try:
        fund(endpoint, target, tokens, GAS_WEI)
    finally:
        endpoint.close()
    print(f"{checksummed(target)} got {tokens:,} token units, and gas")
    if account is None:
        say("to pay for answers with them: commonlore deposit AMOUNT")


def _chain_of(place: Home, given: str | None) -> str:
    """The chain that is named, else that of the running node, else the configured one. Raises ConfigError."""
    from ..peer.gateway.control_client import ControlClient, is_running
    from ..protocol.errors import ConfigError

    url = given
    if not url and is_running(place):
        with ControlClient(place) as client:
            url = client.get("/status")["chain"]
    url = url or config_of(place).chain_url
    if not url:
        raise ConfigError("no chain is configured; name it with --chain-url URL")
    return url
