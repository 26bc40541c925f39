"""`prefetch`: a client suggests to a worker to load an adapter before anybody asks it for one.

Rules of this file: only who could pay for an answer is listened to, and not often; a suggestion costs the
worker free memory at most, never an eviction, and holds none before the adapter is on the disk; nobody waits
for it.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass

import trio

from ...protocol.encoding.codec import decode, encode, encode_value
from ...protocol.errors import CommonloreError, InvalidSignature, NotFound
from ...protocol.ids import Address, Cid, PeerId, public_key_of
from ...protocol.requests.records import Suggestion
from ...protocol.signing.bindings import SignedBinding, check_binding
from ...protocol.signing.eip712 import Domain
from ...worker.adapters.store import AdapterStore, Fetch
from ..bucket import Bucket
from ..catalog import Catalog
from ..clock import Clock
from ..settling.funds import Funds
from ..wire.calls import Call
from ..wire.rpc import Rpc

log = logging.getLogger("commonlore.peer.asking.prefetch")
METHOD = "prefetch"
PATIENCE_S = 10.0
MAX_SUGGESTION_BYTES = 2_048
FETCH_PATIENCE_S = 300.0
"""How long an adapter that was suggested may take to come: the next suggestion waits for its turn."""
JUDGED_PER_S, JUDGED_BURST = 1.0, 8.0
"""Suggestions that are looked at, of all peers together: each may cost a reading of the chain."""
TAKEN_PER_S, TAKEN_BURST = 1 / 60, 2.0
"""Suggestions that are taken of one owner."""
MAX_OWNERS = 1_024


async def suggest(rpc: Rpc, peer: PeerId, adapter: Cid, binding: SignedBinding) -> None:
    """Tell a worker that asks for this adapter are coming, from the payer of this binding; whether it listens
    is its own affair."""
    try:
        with trio.move_on_after(PATIENCE_S):
            await rpc.call(peer, METHOD, encode(Suggestion(adapter, binding)))
    except CommonloreError as error:
        log.debug("no prefetch of %s by %s: %s", adapter, peer, error)


@dataclass(frozen=True, slots=True)
class PrefetchParts:
    """What decides about a suggestion. `least_price`: token units that its payer must be good for."""

    adapters: AdapterStore
    fetch: Fetch
    catalog: Catalog
    funds: Funds
    domain: Domain
    clock: Clock
    base: Cid
    least_price: int


class Prefetching:
    """The worker's side: one suggestion at a time, while there is room. Run `run` in the node's
    nursery: whoever suggests does not stay until it is done.
    """

    def __init__(self, parts: PrefetchParts) -> None:
        self._parts = parts
        self._accept, self._accepted = trio.open_memory_channel[Cid](0)
        self._judged = Bucket(JUDGED_PER_S, JUDGED_BURST, trio.current_time())
        self._taken: OrderedDict[Address, Bucket] = OrderedDict()

    async def run(self) -> None:
        """Make adapters ready that were suggested, one after the other; for ever."""
        async for adapter in self._accepted:
            try:
                with trio.move_on_after(FETCH_PATIENCE_S):
                    await self._make_ready(adapter)
            except CommonloreError as error:
                log.info("adapter %s, which was suggested, is not ready: %s", adapter, error)

    async def serve(self, call: Call) -> None:
        """Answers at once whether the adapter will be made ready.

        Raises ProtocolError, NotFound for an adapter that was never announced.
        """
        wanted = decode(Suggestion, await call.receive(), MAX_SUGGESTION_BYTES)
        if self._parts.catalog.record_of(wanted.adapter) is None:
            raise NotFound(f"adapter {wanted.adapter} was never announced here")
        takes = (
            self._parts.adapters.has_room()
            and self._judged.take(trio.current_time())
            and await self._is_good(wanted.binding, call.peer)
            and self._take(wanted.adapter, wanted.binding.binding.owner)
        )
        await call.send(encode_value(takes))

    async def _make_ready(self, adapter: Cid) -> None:
        """Bring it onto the disk, and into memory if there is room for it then."""
        manifest = await self._parts.catalog.payable(adapter)
        if manifest.base != self._parts.base:
            raise NotFound(f"it is for base {manifest.base}")
        await self._parts.fetch(adapter)
        if self._parts.adapters.has_room():
            await self._parts.adapters.ensure(adapter)

    async def _is_good(self, signed: SignedBinding, peer: PeerId) -> bool:
        """Whether the payer could pay for an answer. Raises ProtocolError where it is not this peer's."""
        binding = signed.binding
        if binding.ed25519_key != public_key_of(peer):
            raise InvalidSignature("a suggestion with the binding of another peer")
        check_binding(self._parts.domain, signed, self._parts.clock.now_ms() // 1000)
        limit = await self._parts.funds.limit(binding.session_key, binding.owner)
        return limit >= self._parts.least_price

    def _take(self, adapter: Cid, owner: Address) -> bool:
        """Whether nothing else is being made ready, and its payer's owner may suggest another one."""
        now = trio.current_time()
        bucket = self._taken.pop(owner, None) or Bucket(TAKEN_PER_S, TAKEN_BURST, now)
        self._taken[owner] = bucket
        if len(self._taken) > MAX_OWNERS:
            self._taken.popitem(last=False)
        try:
            if bucket.pause(now) > 0:
                return False
            self._accept.send_nowait(adapter)
        except trio.WouldBlock:
            return False
        return bucket.take(now)
