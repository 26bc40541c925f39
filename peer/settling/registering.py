"""What this peer publishes, registered on the chain: bases, its Datanets' versions, its adapters.

Rules of this file:

- The chain has the last word: each look reads it and sends what is missing, so a look may be cut off anywhere
  and begun again, and nothing is registered twice.
- Publishing never waits for the chain. What cannot be registered yet (no gas, a parent or a Datanet that is
  not registered, a chain that is away) is said, and tried again.
- Records stand under this peer's own account, whose signature or transaction they are: whoever copies one
  registers it under another name. A Datanet whose curator does not register it within a while is registered
  by who trained on it: what counts is what it says.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from ...contracts.calling.records import AdapterRegistration
from ...contracts.client.chain import ChainClient
from ...contracts.client.registering import adapter_record_id, datanet_entry
from ...protocol.content.manifests import DatanetManifest
from ...protocol.errors import CommonloreError, DeadlineExceeded, NotFound, ProtocolError, Unreachable
from ...protocol.gossip.adverts import DatanetRecord, MeasurementRecord
from ...protocol.ids import Cid
from ...protocol.signing.keys import AccountKey
from ..catalog import Catalog, Named, name_of
from .claiming import on_chain

log = logging.getLogger("commonlore.peer.settling.registering")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 300.0
LOOK_AGAIN_S = 900.0
"""When what was registered is looked for again: the chain may have taken its block back."""
CURATOR_PATIENCE_S = 60.0
M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class RegisterStatus:
    """How registering is doing, for people: `waiting_for` is empty when nothing is left to register."""

    registered: int = 0
    waiting_for: str = ""


class Registrar:
    """Registers what the key `peer_key` (Ed25519, public) announced, as the account `owner`, whose client it
    is."""

    def __init__(self, client: ChainClient, catalog: Catalog, peer_key: bytes, owner: AccountKey) -> None:
        self._client = client
        self._catalog = catalog
        self._peer_key = peer_key
        self._owner = owner
        self._done: set[Cid] = set()
        self._missed: dict[Cid, float] = {}
        self._wake = trio.Event()
        self.status = RegisterStatus()

    def wake(self) -> None:
        """Something was announced: look now."""
        self._wake.set()

    async def run(self) -> None:
        """Look whenever something was announced, and again where something is left; for ever."""
        pause, looked = FIRST_PAUSE_S, trio.current_time()
        while True:
            self._wake = trio.Event()
            await self._round()
            waits = bool(self.status.waiting_for)
            with trio.move_on_after(pause if waits else LOOK_AGAIN_S) as slept:
                await self._wake.wait()
            pause = min(2 * pause, LONGEST_PAUSE_S) if slept.cancelled_caught and waits else FIRST_PAUSE_S
            if trio.current_time() - looked > LOOK_AGAIN_S:
                self._done, looked = set(), trio.current_time()

    async def _round(self) -> None:
        """One look whose failure is logged and remembered."""
        try:
            waiting = await self.look()
        except CommonloreError as error:
            self._wait_for(str(error))
            level = logging.WARNING if isinstance(error, Unreachable | DeadlineExceeded) else logging.ERROR
            log.log(level, "registering waits: %s", error)
        except Exception:  # a defect of registering: everything else goes on without it
            self._wait_for("registering failed; see the log")
            log.exception("registering failed")
        else:
            self._wait_for("; ".join(waiting))

    def _wait_for(self, reason: str) -> None:
        if reason and reason != self.status.waiting_for:
            log.info("not everything is registered: %s", reason)
        self.status = RegisterStatus(len(self._done), reason)

    async def look(self) -> list[str]:
        """Register what is missing; what could not be, and why. Raises Unreachable where the chain does not
        answer, which costs nothing: what was done stays done.
        """
        waiting = []
        for record in sorted(self._catalog.announced_by(self._peer_key), key=_order):
            if isinstance(record, MeasurementRecord):
                continue
            cid = record.datanet if isinstance(record, DatanetRecord) else record.adapter
            if cid in self._done:
                continue
            try:
                await (self._datanet(cid) if isinstance(record, DatanetRecord) else self._adapter(cid))
            except (Unreachable, DeadlineExceeded):
                raise
            except CommonloreError as error:
                waiting.append(f"{name_of(record)}: {error}")
            else:
                self._done.add(cid)
        return waiting

    async def register(self, adapter: Cid) -> None:
        """Register an adapter that is not announced yet, with the Datanets that it names. Raises
        Unreachable, NotFound, ChainError."""
        await self._adapter(adapter)

    # ---- Datanets

    async def _datanet(self, datanet: Cid) -> None:
        """A version and, before it, the earlier ones that can be had, under their own numbers on the
        chain. One without shards stays out: nobody can learn from it, and it has no contributors' root."""
        registered = await on_chain(self._client.registrations.datanets)
        known = {each.entry for each in registered.values() if each.owner == self._owner.address}
        versions: list[tuple[Cid, DatanetManifest]] = []
        current: Cid | None = datanet
        while current is not None:
            try:
                manifest = await self._catalog.datanet(current)
            except (NotFound, Unreachable, ProtocolError):
                break
            if datanet_entry(current, manifest) in known:
                break
            if manifest.shards:
                versions.append((current, manifest))
            current = manifest.previous
        for version in reversed(versions):
            await self._register_datanet(*version)

    async def _register_datanet(self, datanet: Cid, manifest: DatanetManifest) -> bytes:
        registry, name = self._client.registry, manifest.name
        version = 1 + await on_chain(registry.datanet_version, self._owner.address, name)
        entry = datanet_entry(datanet, manifest)
        record = await on_chain(registry.register_datanet, name, version, entry)
        log.info("registered Datanet %s, version %d", name, manifest.version)
        return record

    async def _datanet_record(self, datanet: Cid) -> bytes:
        """The record of a Datanet that an adapter learnt from. Raises NotFound while its curator may still
        register it."""
        manifest = await _had(self._catalog.datanet, datanet)
        found = await on_chain(self._client.registrations.find_datanet, datanet_entry(datanet, manifest))
        if found is not None:
            return found
        missed = self._missed.setdefault(datanet, trio.current_time())
        if manifest.curator != self._peer_key and trio.current_time() < missed + CURATOR_PATIENCE_S:
            raise NotFound(f"its Datanet {manifest.name!r} is not registered yet")
        return await self._register_datanet(datanet, manifest)

    # ---- adapters

    async def _adapter(self, adapter: Cid) -> None:
        registry, manifest = self._client.registry, await _had(self._catalog.adapter, adapter)
        if manifest.author_payee != self._owner.address:
            return  # another's adapter, announced here too
        record = adapter_record_id(manifest.author_payee, adapter)
        if await on_chain(registry.adapter, record) is not None:
            return
        if await on_chain(registry.base_registrant, manifest.base) is None:
            await on_chain(registry.register_base, manifest.base)
        made = AdapterRegistration(
            adapter,
            manifest.base,
            tuple([await self._datanet_record(datanet) for datanet in manifest.datanets]),
            tuple([await self._parent_record(parent) for parent in manifest.parents]),
            manifest.split,
            manifest.author_payee,
        )
        await on_chain(registry.register_adapter, made, registry.sign_adapter(made, self._owner))
        log.info("registered adapter %s", adapter)

    async def _parent_record(self, parent: Cid) -> bytes:
        manifest = await _had(self._catalog.adapter, parent)
        record = adapter_record_id(manifest.author_payee, parent)
        if await on_chain(self._client.registry.adapter, record) is None:
            raise NotFound(f"its parent {manifest.name!r} is not registered yet")
        return record


async def _had(read: Callable[[Cid], Awaitable[M]], cid: Cid) -> M:
    """A manifest. Raises NotFound also where peers do not answer, which is no silence of the chain's."""
    try:
        return await read(cid)
    except Unreachable as error:
        raise NotFound(str(error)) from error


def _order(record: Named) -> tuple[bool, int]:
    """Datanets before what learnt from them, then as they were announced."""
    return not isinstance(record, DatanetRecord), record.seq
