"""The checker role: a worker with a bond as an attributor helps to make the beacon's seeds, attests to the
receipts that it is drawn for, and is paid from the work pool.

Rules of this file: the bond alone decides; `commonlore bond` makes it. Without one a look costs a reading.
While it leaves nothing new is begun, but what was hidden is shown and what was earned collected.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from ...contracts.client.chain import ChainClient
from ...protocol.errors import CommonloreError, DeadlineExceeded, LocalProtocolError, Unreachable
from ...protocol.ids import Address, Cid
from ...protocol.receipts.records import Weight
from ...protocol.settlement.published import MAX_EPOCH_BYTES
from ..node import Node
from ..settling.claiming import on_chain
from ..watchtower.attesting import LONGEST_LOOK_S, ROLE, Attesting, Sources
from ..watchtower.seeding import Seeding

log = logging.getLogger("commonlore.peer.checker")
LONGEST_PAUSE_S = 300.0


@dataclass(frozen=True, slots=True)
class CheckStatus:
    """How checking is doing, for people. `contradicted` are receipts that were paid otherwise than this
    attributor found; `earned` is in token units; `waiting_for` is empty when the last look was whole."""

    attested: int = 0
    contradicted: int = 0
    earned: int = 0
    waiting_for: str = ""
    failures: int = 0


class Checker:
    """Takes part in checking for one account, as long as that is bonded as an attributor."""

    def __init__(self, client: ChainClient, seeding: Seeding, attesting: Attesting) -> None:
        self._client = client
        self._seeding = seeding
        self._attesting = attesting
        self.status = CheckStatus()

    async def run(self, interval_s: float) -> None:
        """Look for ever, every `interval_s` seconds; after a failure at growing intervals."""
        while True:
            await self._round()
            slower = 2.0 ** min(self.status.failures, 10)
            await trio.sleep(min(interval_s * slower, max(LONGEST_PAUSE_S, interval_s)))

    async def _round(self) -> None:
        """One look whose failure is logged and remembered."""
        failures = 0
        try:
            reason = "; ".join(await self.look())
        except CommonloreError as error:
            failures, reason = self.status.failures + 1, str(error)
            level = logging.WARNING if isinstance(error, Unreachable | DeadlineExceeded) else logging.ERROR
            log.log(level, "checking waits: %s", error)
        except Exception:  # a defect of checking: everything else goes on without it
            failures, reason = self.status.failures + 1, "checking failed; see the log"
            log.exception("checking failed")
        done = self._attesting
        self.status = CheckStatus(done.attested, done.contradicted, done.earned, reason, failures)

    async def look(self) -> list[str]:
        """Do what can be done now; what cannot be, and why. Raises Unreachable, ChainError."""
        bonds = self._client.bonds
        bond = await on_chain(bonds.of, self._client.address, ROLE)
        if not bond.amount:
            return []
        terms = await on_chain(lambda: self._client.draws.terms)
        stays = bond.dependable >= max(terms.minimum_bond, 1)
        since = await on_chain(bonds.since, self._client.address, ROLE)
        now = await on_chain(self._client.chain_time)
        rounds = await on_chain(self._rounds_wanted, since, now)
        refused = await self._seeding.look(rounds, now, joins=stays)
        return [*refused, *await self._attesting.look(since if stays else None, now)]

    def _rounds_wanted(self, since: int, now: int) -> set[int]:
        """The present round, and those before for which this account can be drawn, where their seeds draw who
        checks what was posted. Blocking."""
        client = self._client
        posted = [each.posted_at for lane in client.lanes() for each in client.commitments(lane)]
        genesis, length = client.deployment.genesis, client.deployment.round_length
        present = (now - genesis) // length
        wanted = {(at - genesis) // length + 1 for at in posted if now <= at + LONGEST_LOOK_S}
        return {n for n in wanted if n == present or client.draws.starts_at(n) > since}


@asynccontextmanager
async def open_checker(node: Node) -> AsyncIterator[Checker]:
    """The checker of this node, running until the node closes."""
    if node.chain.client is None:
        raise LocalProtocolError("checking needs a chain endpoint: set chain_url and deployment")

    async def fetch(_: Address, cid: Cid) -> bytes:
        return await node.content.get(cid, MAX_EPOCH_BYTES)

    async def own(receipt_hash: bytes, adapter: Cid) -> tuple[Weight, ...] | None:
        known = await node.store.records.statements(receipt_hash, adapter)
        mine = [each.record.weights for each in known if each.public_key == node.keys.peer.public]
        return mine[0] if mine else None

    client = node.chain.client
    sources = Sources(fetch, node.catalog.adapter, own)
    attesting = Attesting(client, node.keys.owner, sources)
    checker = Checker(client, Seeding(client, node.store.settings), attesting)
    node.nursery.start_soon(checker.run, float(node.config.watch_interval_s))
    yield checker
