"""The beacon's rounds, as far as this account takes part: hide a value, show it, make the seed.

Rules of this file: a value is written down before it is hidden, as who cannot show it loses its stake. Rounds
are taken part in where a seed is needed: in the round after one in which a commitment was posted. Whoever
needs a seed closes and settles its round; others may have been faster, which is no failure.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable

from ...contracts.calling.endpoint import Rejected
from ...contracts.client.chain import ChainClient
from ..settling.claiming import on_chain
from ..store.node_store import Settings

log = logging.getLogger("commonlore.peer.watchtower.seeding")
_WORD = 32


class Seeding:
    """One account's part in the beacon."""

    def __init__(self, client: ChainClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._made: set[int] = set()

    async def look(self, rounds: Iterable[int], now: int, *, joins: bool = True) -> list[str]:
        """Do for these rounds what can be done at a chain time; what others had done already, or was refused.
        Nothing more is hidden unless `joins`; what was hidden is shown all the same.

        Raises Unreachable, ChainError.
        """
        current, refused = await on_chain(self._client.beacon.round_at, now), []
        for number in sorted(set(rounds) - self._made):
            if number > current:
                break
            try:
                await (self._take_part(number, now, joins) if number == current else self._finish(number))
            except Rejected as error:
                refused.append(f"round {number} of the beacon: {error}")
        return refused

    async def _take_part(self, number: int, now: int, joins: bool) -> None:
        beacon, half = self._client.beacon, self._client.deployment.round_length // 2
        hidden = await on_chain(beacon.has_committed, number)
        kept = await self._settings.get(self._name(number))
        if now < self._client.draws.starts_at(number) + half:
            if joins and not hidden:
                secret = kept or await self._new_secret(number)
                await on_chain(beacon.commit, number, secret[:_WORD], secret[_WORD:])
        elif hidden and kept is not None:
            await on_chain(beacon.reveal, number, kept[:_WORD], kept[_WORD:])

    async def _new_secret(self, number: int) -> bytes:
        """Value and salt, written down."""
        secret = secrets.token_bytes(2 * _WORD)
        await self._settings.put(self._name(number), secret)
        return secret

    async def _finish(self, number: int) -> None:
        """Close a round that is over, and make its seed some blocks later."""
        beacon = self._client.beacon
        if await on_chain(beacon.seed, number) is not None:
            self._made.add(number)
            return
        state = await on_chain(beacon.state, number)
        if not state.is_closed:
            await on_chain(beacon.close, number)
        elif await on_chain(beacon.head) >= state.target:
            await on_chain(beacon.settle, number)
            log.info("made the seed of round %d", number)

    def _name(self, number: int) -> str:
        return f"beacon/{self._client.deployment.domain.separator.hex()}/{number}"
