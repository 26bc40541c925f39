"""`commonlore node` and `commonlore worker`: one peer in the foreground, until Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .grouped import takes_groups
from .options import PeerOptions
from .printing import print_facts, say

if TYPE_CHECKING:
    from ..peer.config import Config
    from ..peer.home import Home
    from ..peer.node import Node


@takes_groups
def node(
    *,
    role: Annotated[
        list[str] | None, typer.Option(help="worker, contributor, gateway, bootstrap, watchtower.")
    ] = None,
    options: PeerOptions,
) -> None:
    """Run one peer with the roles you give it, until Ctrl-C."""
    run_peer(options.place, options.config(roles=role), options.json)


@takes_groups
def worker(
    *,
    base: Annotated[str | None, typer.Option(help="The base model: starter, or one you added.")] = None,
    options: PeerOptions,
) -> None:
    """Run a worker peer: serve a base model and any adapter on it, and be paid; until Ctrl-C."""
    from ..peer.local.extras import require
    from ..worker.models.importing import import_base
    from .progress import bars

    require("worker")
    config = options.config(roles=["worker"], base=base)
    with bars() as advance:
        import_base(config.base, Path(config.cache_dir) if config.cache_dir else None, advance)
    run_peer(options.place, config, options.json)


def run_peer(home: Home, config: Config, as_json: bool) -> None:
    """Run a peer until it is told to stop; say where it is when it is ready."""
    import trio

    from ..peer.local.extras import require
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
