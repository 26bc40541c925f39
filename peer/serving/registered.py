"""Whether the chain says of an adapter what its manifest says: a worker looks before it serves.

Rules of this file: a worker divides by the manifest and is judged by the record. A record that says otherwise
would make its honest commitments fraudulent, so such an adapter is refused. What is registered in an epoch
binds the answers of later ones: each adapter is looked for once an epoch, until it is registered. Without
the chain answers go on; a worker that is bonded takes that chance. An answer for an epoch to come is not
given by an adapter whose record was not seen: one that is made later in this epoch would bind it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from ...contracts.calling.records import AdapterEntry
from ...contracts.client.chain import ChainClient
from ...contracts.client.registering import adapter_record_id
from ...protocol.content.manifests import AdapterManifest
from ...protocol.errors import ChainError, InvalidAdapter, NotFound, ProtocolError, Refused, Unreachable
from ...protocol.ids import CHUNK_SIZE, ZERO_ADDRESS, Address, Cid
from ...protocol.inference.messages import RefusalCode
from ..catalog import FetchBytes
from ..settling.claiming import on_chain
from ..settling.lineages import Lineages

log = logging.getLogger("commonlore.peer.serving.registered")
MAX_REMEMBERED = 10_000
CHAIN_PATIENCE_S = 1.0
"""How long an answer waits for the chain."""
SILENCE_S = 15.0
"""How long a chain that did not answer is not asked again."""


class RegisteredTerms:
    """The check that a worker's catalog makes of every adapter. `epoch()` is the chain's of now."""

    def __init__(self, client: ChainClient, fetch: FetchBytes, epoch: Callable[[], int]) -> None:
        async def fetch_manifest(_: Address, cid: Cid) -> bytes:
            return await fetch(cid, CHUNK_SIZE)

        self._client = client
        self._lineages = Lineages(client, fetch_manifest)
        self._epoch = epoch
        self._good: set[Cid] = set()
        self._absent: dict[Cid, int] = {}
        self._asked_again_at = 0.0

    async def check(self, adapter: Cid, manifest: AdapterManifest, epoch: int | None = None) -> None:
        """Raises InvalidAdapter where the record is not what the manifest says, Refused where the answer is
        for an epoch to come (`epoch`) and no record was seen. Where the network asks for bonds also NotFound
        or Unreachable, if what the record names cannot be had.
        """
        now = self._epoch()
        if adapter in self._good:
            return
        if self._absent.get(adapter) != now and trio.current_time() >= self._asked_again_at:
            await self._look(adapter, manifest, now)
        if epoch is not None and epoch > now and adapter not in self._good:
            told = f"adapter {adapter} may be registered until epoch {epoch} begins; it is epoch {now}"
            raise Refused(RefusalCode.STALE, told, epoch=now)

    async def _look(self, adapter: Cid, manifest: AdapterManifest, epoch: int) -> None:
        record_id = adapter_record_id(manifest.author_payee, adapter)
        try:
            with trio.fail_after(CHAIN_PATIENCE_S):
                entry = await on_chain(self._client.registry.adapter, record_id)
        except (Unreachable, ChainError, trio.TooSlowError) as error:
            self._asked_again_at = trio.current_time() + SILENCE_S
            log.warning("the record of %s is not known: %s", adapter, error or "the chain does not answer")
            return
        if entry is None:
            self._remember_absent(adapter, epoch)
            return
        try:
            await self._require_same(adapter, manifest, record_id, entry)
        except (NotFound, Unreachable) as error:
            if self._client.deployment.minimum_bond:
                raise
            log.warning("who contributed to %s is not known, and no bond is at stake: %s", adapter, error)
            return
        self._good.add(adapter)

    async def _require_same(
        self, adapter: Cid, manifest: AdapterManifest, record_id: bytes, entry: AdapterEntry
    ) -> None:
        if entry.split != manifest.split:
            raise InvalidAdapter(f"adapter {adapter} is registered with another split than its manifest's")
        try:
            lineage = await self._lineages.of(ZERO_ADDRESS, record_id)
        except ProtocolError as error:
            raise InvalidAdapter(f"adapter {adapter} cannot be paid for: {error}") from error
        strangers = [prior.payee for prior in manifest.priors if not lineage.has(prior.payee)]
        if strangers:
            raise InvalidAdapter(
                f"adapter {adapter} pays 0x{strangers[0].hex()}, who contributed to nothing that it is "
                "registered with; its author must publish it anew"
            )

    def _remember_absent(self, adapter: Cid, epoch: int) -> None:
        if len(self._absent) >= MAX_REMEMBERED:
            self._absent.clear()
        self._absent[adapter] = epoch
