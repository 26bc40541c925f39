"""`commonlore watch`: a watchtower in the foreground, until Ctrl-C."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .grouped import takes_groups
from .options import PeerOptions
from .printing import harmless, print_facts, print_json, say

if TYPE_CHECKING:
    from ..peer.node import Node
    from ..peer.watchtower.demands import WatchReport


@takes_groups
def watch(options: PeerOptions) -> None:
    """Watch every lane's commitments and every committed index, and challenge what is wrong, until Ctrl-C.

    Whoever proves a fraud gets half of the bond behind it; a challenge costs gas, so this home's owner needs
    some.
    """
    import trio

    from ..peer.local.extras import require
    from ..peer.logs import open_logs
    from ..peer.run import run_node

    require("settle")
    config, place = options.config(roles=["watchtower"]), options.place.create()

    def announce(node: Node, _: str | None) -> None:
        if node.watchman is not None:
            node.watchman.tell(_print_json if options.json else _print)
        if not options.json:
            _introduce(node)

    with open_logs(place.logs, config.log_level):
        trio.run(lambda: run_node(config, place, announce=announce))


def _introduce(node: Node) -> None:
    from ..protocol.ids import checksummed

    account = checksummed(node.keys.owner.address)
    print_facts({"chain": node.config.chain_url, "account": account, "home": node.home.path})
    say("watching every lane; Ctrl-C ends it")


def _print(report: WatchReport) -> None:
    """What was done, and what could not be; nothing for a round without either."""
    from ..protocol.ids import checksummed

    if report.judged:
        print(f"judged {report.judged} commitments of {report.lanes} lanes", flush=True)
    for act in report.acts:
        print(f"{act.what}: epoch {act.epoch} of lane {checksummed(act.lane)}: {act.said}", flush=True)
        print(f"transaction {act.tx}", flush=True)
    if report.indexes:
        print(f"judged {report.indexes} indexes", flush=True)
    for proved in report.index_acts:
        named = f"index {proved.index.hex()} of {checksummed(proved.maker)}"
        print(f"{proved.what}: {named}: {proved.said}", flush=True)
        print(f"transaction {proved.tx}", flush=True)
    for doubt in report.doubts:
        print(harmless(f"doubtful: {doubt}"), flush=True)
    for reason in report.waiting:
        print(harmless(f"waiting: {reason}"), flush=True)


def _print_json(report: WatchReport) -> None:
    from ..peer.gateway.views import plain

    print_json(plain(report))
