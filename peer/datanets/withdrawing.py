"""Takedown: what a withdrawn shard leaves behind on this machine, and what it must not be used for.

Rules of this file:
- The rows go, and with them their salts: what stays are hashes that nobody can open. So do the rows in every
  retrieval index of this home, training runs that hold them, and prompts that they were put into. Their
  vectors leave every gradient index (`IndexRows`); what left stands in a difference that the Datanet version
  names beside the withdrawal. The shard's header stays; by it the withdrawal is checked.
- An adapter that was trained on a Datanet version with the shard is tainted. It is refused here from then on,
  by workers and by clients, so nobody earns from it any more; what was paid stays paid. Its author trains
  again: the new adapter names the version without the shard, which names the withdrawal.
- What is withdrawn is known for good: it is kept in the store. The curator publishes a version without the
  shard, and whoever hears of that version does the same with the rows that it holds.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

from ...protocol.content.manifests import MAX_SHARD_BYTES, DatanetManifest, Row, Shard, ShardHeader
from ...protocol.content.rows import decode_rows
from ...protocol.content.withdrawals import (
    MAX_LIST_BYTES,
    MAX_WITHDRAWAL_BYTES,
    Withdrawal,
    WithdrawalList,
    check_withdrawal,
    decode_withdrawals,
    encode_withdrawals,
)
from ...protocol.encoding.codec import decode, decode_value, encode_value
from ...protocol.errors import CommonloreError, NotFound
from ...protocol.ids import CHUNK_SIZE, Cid, to_cid
from ...protocol.signing.envelope import Sealed, open_sealed, seal
from ...protocol.signing.keys import PeerKey
from ..blobs.content import Content
from ..catalog import Catalog
from ..store.node_store import Settings
from .leftovers import forget_jobs
from .retrieving import Retriever

log = logging.getLogger("commonlore.peer.datanets.withdrawing")
_KNOWN = "withdrawn"
_SHARD = b"\xa3\x66header\xaa\x64rows"
"""How a shard begins: a map of three, the first its header, a map of ten, the first its rows."""
RETRIES_S = (10.0, 60.0, 600.0, 3_600.0)
"""After so long a version is looked at again that could not be read."""


@dataclass(frozen=True, slots=True)
class Tainted:
    """An adapter that learnt from rows that were withdrawn."""

    alias: str
    adapter: Cid


class KeptPrompts(Protocol):
    """Receipts with what was asked."""

    async def forget_prompts_with(self, shard: Cid) -> int:
        """Delete every prompt that holds rows of a shard; how many receipts that were."""
        ...


class Kept(Protocol):
    """What a store keeps of this: which shards were withdrawn, and prompts with their rows."""

    @property
    def settings(self) -> Settings:
        """Where it is remembered."""
        ...

    @property
    def ledger(self) -> KeptPrompts:
        """Where the prompts are."""
        ...


class IndexRows(Protocol):
    """The gradient indexes of a home, whose rows leave with those that they are of."""

    async def open(self, shard: Cid, rows: Sequence[Row]) -> None:
        """Keep the hashes of a withdrawn shard's rows."""
        ...

    async def hear(self, listed: Sequence[Cid], withdrawn: Collection[Cid]) -> None:
        """Remember differences made elsewhere. Raises NotFound, Unreachable."""
        ...

    async def subtract(self) -> None:
        """Take the rows of all withdrawn shards out of every index."""
        ...


@dataclass(frozen=True, slots=True)
class Derived:
    """What a home has made of rows: its retrieval indexes, its gradient indexes, its training runs."""

    retriever: Retriever
    indexes: IndexRows
    jobs: Path


class Withdrawals:
    """The shards that were withdrawn, as far as this home knows."""

    def __init__(self, content: Content, catalog: Catalog, derived: Derived, kept: Kept) -> None:
        self._derived = derived
        self._content = content
        self._catalog = catalog
        self._settings = kept.settings
        self._prompts = kept.ledger

    async def recall(self) -> None:
        """Remember what was withdrawn before the node's last end."""
        self._catalog.withdrawn |= await known_withdrawn(self._settings)

    async def sweep(self) -> None:
        """Take rows out of indexes that were made or fetched while these were withdrawn."""
        if self._catalog.withdrawn:
            try:
                await self._derived.indexes.subtract()
            except (CommonloreError, OSError) as error:
                log.warning("withdrawn rows were not looked for in indexes: %s", error)

    async def take(self, sealed: Sealed[Withdrawal]) -> int:
        """Carry out a withdrawal; how many rows went from retrieval indexes here.

        Raises InvalidSignature, RemoteProtocolError, InvalidShard, NotFound, Unreachable.
        """
        forgotten = await self._take_rows(sealed.record.shard, await self._withdrawn_by(sealed))
        await self._finish()
        return forgotten

    async def _withdrawn_by(self, sealed: Sealed[Withdrawal]) -> ShardHeader:
        """The header of the shard that this withdraws. Raises InvalidSignature, RemoteProtocolError,
        NotFound, Unreachable."""
        cid = sealed.record.shard
        shard = decode(Shard, await self._content.get(cid, CHUNK_SIZE))
        check_withdrawal(sealed, cid, shard)
        return shard.header

    async def _take_rows(self, cid: Cid, header: ShardHeader) -> int:
        """A shard's rows and all that holds them, but for gradient indexes; what a crash cuts short is not
        known as carried out, and is done when it is heard of again."""
        self._catalog.withdrawn.add(cid)
        forgotten = await self._derived.retriever.forget(cid)
        if prompts := await self._prompts.forget_prompts_with(cid):
            log.info("deleted %d prompts that held rows of shard %s", prompts, cid)
        if not self._content.has(header.rows):
            self._content.forget(header.rows)  # with what was fetched of it so far
            return forgotten
        if await self._is_kept_otherwise(cid, header):
            return forgotten
        try:
            rows = decode_rows(await self._content.get(header.rows, MAX_SHARD_BYTES))
        except CommonloreError as wrong:
            log.warning("what withdrawn shard %s names as its rows stays, it is none: %s", cid, wrong)
            return forgotten
        await self._derived.indexes.open(cid, rows)
        await trio.to_thread.run_sync(forget_jobs, self._derived.jobs, rows)
        self._content.forget(header.rows)
        return forgotten

    async def _is_kept_otherwise(self, cid: Cid, header: ShardHeader) -> bool:
        """Whether another shard holds the very same rows, made here or signed by the same contributor, and
        not withdrawn: anybody may sign a shard of rows that others gave, and withdraw that."""
        for other in await self._content.starting_with(_SHARD):
            if other == cid or other in self._catalog.withdrawn:
                continue
            with suppress(CommonloreError):
                named = decode(Shard, await self._content.get(other, CHUNK_SIZE)).header
                is_ours = self._content.is_pinned(other) or named.ed25519_key == header.ed25519_key
                if named.rows == header.rows and is_ours:
                    return True
        return False

    async def _finish(self) -> None:
        await self._derived.indexes.subtract()
        await self._settings.put(_KNOWN, encode_value([*sorted(self._catalog.withdrawn)]))

    async def keep_following(self, datanet: Cid) -> None:
        """As `follow`, again later where who announced the version is not reached yet."""
        for pause in RETRIES_S:
            if await self.follow(datanet):
                return
            await trio.sleep(pause)
        await self.follow(datanet)

    async def follow(self, datanet: Cid) -> bool:
        """Carry out what a version of a Datanet says was withdrawn. False where something could not be read,
        which is logged."""
        try:
            listed = await self.of_version(await self._catalog.datanet(datanet))
        except CommonloreError as error:
            log.warning("the withdrawals of Datanet version %s were not carried out: %s", datanet, error)
            return False
        new, is_whole = dict[Cid, ShardHeader](), True
        for cid, sealed in listed.withdrawals.items():
            try:
                if cid not in self._catalog.withdrawn:
                    new[cid] = await self._withdrawn_by(sealed)
            except CommonloreError as error:
                log.warning("a withdrawal of Datanet version %s is not carried out: %s", datanet, error)
                is_whole = False
        withdrawn = listed.withdrawals.keys() & (self._catalog.withdrawn | new.keys())
        is_whole = await self._hear(listed.differences, withdrawn) and is_whole
        return await self._take_all(new) and is_whole

    async def _take_all(self, new: Mapping[Cid, ShardHeader]) -> bool:
        """Carry out withdrawals that were checked; one that cannot be keeps no other from it."""
        is_whole = True
        for cid, header in new.items():
            try:
                await self._take_rows(cid, header)
            except CommonloreError as error:
                log.warning("the withdrawal of shard %s is not carried out: %s", cid, error)
                self._catalog.withdrawn.discard(cid)
                is_whole = False
        if new:
            await self._finish()
        return is_whole

    async def _hear(self, differences: Sequence[Cid], withdrawn: Collection[Cid]) -> bool:
        """Differences first: they may tell which rows of an index are to go. None holds a withdrawal up."""
        try:
            await self._derived.indexes.hear(differences, withdrawn)
        except CommonloreError as error:
            log.warning("what withdrawals took out of indexes is not known yet: %s", error)
            return False
        return True

    async def of_version(self, manifest: DatanetManifest) -> WithdrawalList:
        """The withdrawals that a version names, and the differences. Raises NotFound, Unreachable,
        ProtocolError."""
        if manifest.withdrawn is None:
            return WithdrawalList({})
        return decode_withdrawals(await self._content.get(manifest.withdrawn, MAX_LIST_BYTES))

    async def list_with(
        self,
        manifest: DatanetManifest,
        added: Sequence[Sealed[Withdrawal]],
        differences: tuple[Sequence[Cid], Collection[Cid]] = ((), ()),
    ) -> Cid:
        """Keep the list of a version's withdrawals with these, and with these differences in place of those
        that they outdate; its name. Raises as `of_version`."""
        before, (new, outdated) = await self.of_version(manifest), differences
        withdrawals = {**before.withdrawals, **{sealed.record.shard: sealed for sealed in added}}
        stay = [each for each in before.differences if each not in outdated]
        listed = WithdrawalList(withdrawals, tuple(dict.fromkeys((*stay, *new))))
        return await self._content.put(encode_withdrawals(listed))

    async def tainted(self, shard: Cid) -> tuple[Tainted, ...]:
        """The announced adapters that learnt from this shard. What cannot be read is not listed."""
        found: list[Tainted] = []
        for record in self._catalog.adapters():
            try:
                manifest = await self._catalog.adapter(record.adapter)
                versions = [await self._catalog.datanet(datanet) for datanet in manifest.datanets]
            except CommonloreError as error:
                log.warning("whether %s learnt from shard %s is not known: %s", record.alias, shard, error)
                continue
            if any(shard in version.shards for version in versions):
                found.append(Tainted(record.alias, record.adapter))
        return tuple(found)


async def known_withdrawn(settings: Settings) -> set[Cid]:
    """The shards that a home knows to be withdrawn."""
    raw = await settings.get(_KNOWN)
    listed = decode_value(raw, len(raw)) if raw is not None else []
    return {to_cid(each) for each in listed if isinstance(each, str)} if isinstance(listed, list) else set()


def sign_withdrawal(key: PeerKey, datanet: str, shard: Cid, reason: str, now_ms: int) -> Sealed[Withdrawal]:
    """A withdrawal under a contributor's key."""
    raw = seal(key, Withdrawal(datanet, shard, reason, now_ms), MAX_WITHDRAWAL_BYTES)
    return open_sealed(raw, (Withdrawal,), MAX_WITHDRAWAL_BYTES)


async def shards_of(content: Content, manifest: DatanetManifest, key: bytes) -> tuple[Cid, ...]:
    """The shards of a version that this Ed25519 key signed. Raises NotFound where it signed none."""
    found: list[Cid] = []
    for cid in manifest.shards:
        shard = decode(Shard, await content.get(cid, CHUNK_SIZE))
        if shard.header.ed25519_key == key:
            found.append(cid)
    if not found:
        raise NotFound(
            f"this identity has no shard in version {manifest.version} of Datanet {manifest.name!r}"
        )
    return tuple(found)
