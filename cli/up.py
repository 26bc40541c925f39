"""`commonlore up`: a whole network on this machine, until Ctrl-C."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .ending import ended_by_signals
from .options import HomeOption, JsonOption, config_of, home_at
from .printing import print_facts, print_json, say
from .progress import bars

if TYPE_CHECKING:
    from ..peer.local.local_network import LocalNetwork


def up(
    base: Annotated[str | None, typer.Option(help="The base model: starter, tiny, or one you added.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker peers.")] = 1,
    gateway_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Of the OpenAI-compatible API; 0 takes a free one.")
    ] = 8080,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Keep a network on this machine, until Ctrl-C: chain, workers, and a peer of yours with a gateway.

    Started again, it goes on with the same keys, content and chain.
    """
    from ..peer.gateway.control_client import ControlClient
    from ..peer.local.extras import require
    from ..peer.local.local_network import open_network
    from ..peer.local.one_machine import YOURS, Wanted, alone, plan_one_machine, require_gateway_port
    from ..peer.local.visits import get_acquainted
    from ..worker.models.importing import import_base
    from .base_models import cache_dir

    require("worker", "devchain")
    place = home_at(home).create()
    config = config_of(place, base=base)
    with ended_by_signals(), alone(place):
        require_gateway_port(gateway_port)
        with bars() as advance:
            import_base(config.base, cache_dir(home), advance)
        say("starting the chain and the peers …")
        with open_network(plan_one_machine(place, config, Wanted(workers, gateway_port))) as network:
            facts = _facts(network)
            with ControlClient(network.home(YOURS)) as client:
                get_acquainted(client)
            if json:
                print_json(facts)
            else:
                print_facts(facts)
                say("Ctrl-C ends all of it; the next `commonlore up` goes on from here.")
            network.watch(say)


def _facts(network: LocalNetwork) -> dict[str, object]:
    from ..peer.local.one_machine import YOURS

    yours = network.peers[YOURS].ready
    peers = {name: peer.ready.address for name, peer in network.peers.items()}
    return {
        "chain": network.chain.url,
        "deployment": str(network.deployment_file),
        **peers,
        "gateway": f"{yours.gateway}/v1" if yours.gateway else None,
        "home": str(network.home(YOURS).path),
        "ask": 'commonlore ask "What is a deductible?"',
    }
