"""This home's binding for its network: kept in the store, and made anew long before it ends, also while the
node runs.

Rules of this file: whoever signs or announces asks for the binding each time and keeps none. So a renewed one
is in the next advert and the next request, and goes to the chain with the next transaction that needs it.
"""

from __future__ import annotations

import logging

import trio

from ...protocol.encoding.codec import decode, encode
from ...protocol.errors import CommonloreError
from ...protocol.signing.bindings import SignedBinding, bind
from ...protocol.signing.eip712 import Domain
from ..clock import Clock
from ..store.node_store import Settings
from .keystore import Keys

log = logging.getLogger("commonlore.peer.identity.own_binding")
BINDING_LIFETIME_S = 30 * 86_400
BINDING_RENEWAL_S = 15 * 86_400
"""With so much left a binding is renewed: others must hear of it, and workers want keys that last."""
BACKDATED_S = 3_600
"""For peers and chains whose clocks are behind."""
LOOK_AGAIN_S = 3_600.0
"""Not one sleep until the renewal: a suspended machine's sleeps are longer than they should be."""


class OwnBinding:
    """The binding in force: `current()`. Run `run` in the node's nursery."""

    def __init__(self, settings: Settings, keys: Keys, domain: Domain, clock: Clock) -> None:
        self._settings = settings
        self._keys = keys
        self._domain = domain
        self._clock = clock
        self._name = f"binding/{domain.separator.hex()}"
        self._signed: SignedBinding | None = None

    def current(self) -> SignedBinding:
        """The binding to sign with now, after the first `renew`."""
        assert self._signed is not None, "a node renews before it opens anything"
        return self._signed

    async def renew(self) -> bool:
        """Whether a new binding had to be made: at a first start, and when the kept one ends soon or names
        another owner."""
        if self._signed is None:
            kept = await self._settings.get(self._name)
            self._signed = None if kept is None else decode(SignedBinding, kept)
        now = self._clock.now_ms() // 1000
        if self._signed is not None and self._is_good(self._signed, now):
            return False
        keys = self._keys
        fresh = bind(
            self._domain, keys.owner, keys.session, keys.peer, now - BACKDATED_S, now + BINDING_LIFETIME_S
        )
        await self._settings.put(self._name, encode(fresh))
        self._signed = fresh
        return True

    async def run(self) -> None:
        """Renew whenever it is time; for ever."""
        while True:
            await trio.sleep(LOOK_AGAIN_S)
            try:
                if await self.renew():
                    log.info("this peer's keys are bound anew, until %d", self.current().binding.not_after)
            except CommonloreError as error:
                log.warning("this peer's keys are not bound anew yet: %s", error)

    def _is_good(self, signed: SignedBinding, now: int) -> bool:
        binding = signed.binding
        return binding.not_after > now + BINDING_RENEWAL_S and binding.owner == self._keys.owner.address
