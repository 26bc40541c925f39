"""`commonlore node` and `commonlore worker`: one peer in the foreground, until Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import HomeOption, JsonOption, home_at
from .printing import print_facts, say

if TYPE_CHECKING:
    from ..peer.config import Config
    from ..peer.home import Home
    from ..peer.node import Node

ListenOption = Annotated[
    list[str] | None, typer.Option(metavar="MULTIADDR", help="Where to listen, e.g. /ip4/0.0.0.0/tcp/4001.")
]
BootstrapOption = Annotated[
    list[str] | None, typer.Option(metavar="MULTIADDR", help="A peer to start from, with /p2p/. Repeatable.")
]
ChainOption = Annotated[str | None, typer.Option(metavar="URL", help="JSON-RPC endpoint of the chain.")]
DeploymentOption = Annotated[
    str | None, typer.Option(metavar="FILE", help="The network's deployment, as `commonlore up` wrote it.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting. Repeatable.")
]


def node(
    role: Annotated[
        list[str] | None, typer.Option(help="worker, contributor, gateway, bootstrap, watchtower.")
    ] = None,
    listen: ListenOption = None,
    bootstrap: BootstrapOption = None,
    chain_url: ChainOption = None,
    deployment: DeploymentOption = None,
    settings: SetOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Run one peer with the roles you give it, until Ctrl-C."""
    place = home_at(home)
    shared = {"listen": listen, "bootstrap": bootstrap, "chain_url": chain_url, "deployment": deployment}
    run_peer(place, config_with(place, settings, roles=role, **shared), json)


def worker(
    base: Annotated[str | None, typer.Option(help="The base model: starter, or one you added.")] = None,
    listen: ListenOption = None,
    bootstrap: BootstrapOption = None,
    chain_url: ChainOption = None,
    deployment: DeploymentOption = None,
    settings: SetOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Run a worker peer: serve a base model and any adapter on it, and be paid; until Ctrl-C."""
    from ..peer.extras import require
    from ..worker.models.importing import import_base
    from .progress import bars

    require("worker")
    place = home_at(home)
    shared = {"listen": listen, "bootstrap": bootstrap, "chain_url": chain_url, "deployment": deployment}
    config = config_with(place, settings, roles=["worker"], base=base, **shared)
    with bars() as advance:
        import_base(config.base, Path(config.cache_dir) if config.cache_dir else None, advance)
    run_peer(place, config, json)


def config_with(home: Home, settings: list[str] | None, **flags: object) -> Config:
    """The home's configuration with these flags and `NAME=VALUE`s over it. Raises ConfigError."""
    from ..peer.config import load_config, parse_text
    from ..protocol.errors import ConfigError

    for text in settings or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text!r} is not NAME=VALUE")
        flags[name.replace("-", "_")] = parse_text(name.replace("-", "_"), value)
    return load_config(home.config, flags=flags)


def run_peer(home: Home, config: Config, as_json: bool) -> None:
    """Run a peer until it is told to stop; say where it is when it is ready."""
    import trio

    from ..peer.extras import require
    from ..peer.logs import open_logs
    from ..peer.run import print_ready, run_node

    require(*(["worker"] if "worker" in config.roles else []))
    home.create()
    announce = print_ready if as_json else _announce
    with open_logs(home.logs, config.log_level):
        trio.run(lambda: run_node(config, home, announce=announce))


def _announce(node: Node, gateway: str | None) -> None:
    from ..protocol.ids import checksummed

    facts: dict[str, object] = {"peer": node.host.peer_id, "roles": list(node.config.roles)}
    facts |= {"address": list(node.host.addresses), "owner": checksummed(node.keys.owner.address)}
    if node.worker is not None:
        facts["base"] = f"{node.worker.engine.facts.name} ({node.worker.engine.facts.base})"
    if gateway is not None:
        facts["gateway"] = f"{gateway}/v1"
    print_facts(facts | {"home": node.home.path})
    say("ready; Ctrl-C ends it")
