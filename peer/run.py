"""`python -m commonlore.peer.run`: one peer in the foreground, until it is told to stop.

When it is ready it prints one line of JSON on stdout. It ends on SIGINT, SIGTERM, a shutdown by its control
socket, and with `--with-parent` when its standard input closes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import trio

from ..protocol.errors import CommonloreError
from ..protocol.ids import checksummed
from .actions import Actions
from .config import Config, load_config, parse_text
from .gateway.doors import open_doors
from .home import Home
from .identity.keystore import Keystore
from .logs import open_logs
from .node import Node, open_node

Announce = Callable[[Node, str | None], None]
"""Told once, when the node is ready: the node, and its gateway's URL if it has one."""


async def run_node(
    config: Config, home: Home, *, with_parent: bool = False, announce: Announce | None = None
) -> None:
    """Open a node and its doors, say so (`announce`, else a line of JSON), and keep it until something ends
    it.
    """
    keystore = Keystore(home.keys)
    keys = await trio.to_thread.run_sync(keystore.own)
    async with open_node(config, home, keys) as node, open_doors(node, Actions(node, keystore)) as doors:
        (announce or print_ready)(node, doors.gateway_url)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until, _signalled, nursery)
            nursery.start_soon(_until, doors.stopped.wait, nursery)
            if with_parent:
                nursery.start_soon(_until, _orphaned, nursery)


def print_ready(node: Node, gateway: str | None) -> None:
    """The line that says the node is ready."""
    line = {
        "ready": True,
        "peer_id": node.host.peer_id,
        "addresses": list(node.host.addresses),
        "owner": checksummed(node.keys.owner.address),
        "session": checksummed(node.keys.session.address),
        "roles": list(node.config.roles),
        "gateway": gateway,
        "home": str(node.home.path),
    }
    print(json.dumps(line), flush=True)


async def _until(event: Any, nursery: trio.Nursery) -> None:
    await event()
    nursery.cancel_scope.cancel()


async def _signalled() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return


async def _orphaned() -> None:
    stdin = sys.stdin.fileno()
    await trio.lowlevel.wait_readable(stdin)
    while os.read(stdin, 65_536):  # unbuffered, and no thread that would still read when the interpreter ends
        await trio.lowlevel.wait_readable(stdin)


def parse(arguments: list[str]) -> tuple[Home, Config, bool]:
    """Home, configuration and whether to end with the parent. Raises ConfigError."""
    parser = argparse.ArgumentParser(prog="commonlore.peer.run", description=__doc__)
    parser.add_argument("--home")
    parser.add_argument("--with-parent", action="store_true")
    for field in fields(Config):
        parser.add_argument("--" + field.name.replace("_", "-"), dest=field.name)
    given = vars(parser.parse_args(arguments))
    home = Home.locate(given.pop("home"))
    with_parent = given.pop("with_parent")
    flags = {name: parse_text(name, text) for name, text in given.items() if text is not None}
    return home, load_config(home.config, flags=flags), with_parent


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 after an orderly end, 1 with one line on stderr otherwise."""
    try:
        home, config, with_parent = parse(sys.argv[1:] if arguments is None else arguments)
        home.create()
        with open_logs(home.logs, config.log_level):
            trio.run(lambda: run_node(config, home, with_parent=with_parent))
    except* CommonloreError as group:
        print(f"error: {_first(group)}", file=sys.stderr)
        return_code = 1
    else:
        return_code = 0
    return return_code


def _first(group: BaseExceptionGroup[CommonloreError]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    sys.exit(main())
