"""Numbers that nobody knew before: a block's hash, later than what it is to decide about.

Rules of this file: where no chain is, or none makes blocks, the beacon is empty, which whoever reads the
statement sees. A block's hash can be steered a little by who makes blocks, never by a trainer.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from ...protocol.errors import ChainError, Unreachable

if TYPE_CHECKING:
    from ...contracts.client import ChainClient

log = logging.getLogger("commonlore.peer.settling.beacons")
PATIENCE_S = 2.0
"""How long the next block may take; a chain that only makes blocks of transactions may be still."""
INTERVAL_S = 0.25


async def later_beacon(client: ChainClient | None) -> bytes:
    """The hash of a block that did not exist at the call; empty where none comes."""
    if client is None:
        return b""
    try:
        first, _ = await _latest(client)
        with trio.move_on_after(PATIENCE_S):
            while True:
                number, digest = await _latest(client)
                if number > first:
                    return digest
                await trio.sleep(INTERVAL_S)
    except (ChainError, Unreachable) as error:
        log.warning("no beacon: %s", error)
    return b""


async def _latest(client: ChainClient) -> tuple[int, bytes]:
    def read() -> tuple[int, bytes]:
        block = client.endpoint.attempt("block", lambda w: w.eth.get_block("latest"))
        return int(block["number"]), bytes(block["hash"])

    return await trio.to_thread.run_sync(read)
