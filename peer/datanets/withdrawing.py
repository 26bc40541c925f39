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
import shutil
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

from ...protocol.content.manifests import MAX_SHARD_BYTES, DatanetManifest, Row, Shard
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
from ...protocol.errors import CommonloreError, ConfigError, NotFound
from ...protocol.ids import CHUNK_SIZE, Cid, to_cid
from ...protocol.signing.envelope import Sealed, open_sealed, seal
from ...protocol.signing.keys import PeerKey
from ...worker.factory.admission import ADMISSION_FILE, read_admission
from ...worker.factory.job import JOB_FILE, Pair, read_job
from ..blobs.content import Content
from ..catalog import Catalog
from ..store.node_store import Settings
from .retrieving import Retriever

log = logging.getLogger("commonlore.peer.datanets.withdrawing")
_KNOWN = "withdrawn"
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

    async def take(self, sealed: Sealed[Withdrawal]) -> int:
        """Carry out a withdrawal; how many rows went from retrieval indexes here.

        Raises InvalidSignature, RemoteProtocolError, InvalidShard, NotFound, Unreachable.
        """
        cid = sealed.record.shard
        shard = decode(Shard, await self._content.get(cid, CHUNK_SIZE))
        check_withdrawal(sealed, cid, shard)
        self._catalog.withdrawn.add(cid)
        forgotten = await self._derived.retriever.forget(cid)
        if prompts := await self._prompts.forget_prompts_with(cid):
            log.info("deleted %d prompts that held rows of shard %s", prompts, cid)
        if self._content.has(shard.header.rows):
            rows = decode_rows(await self._content.get(shard.header.rows, MAX_SHARD_BYTES))
            await self._derived.indexes.open(cid, rows)
            await trio.to_thread.run_sync(forget_jobs, self._derived.jobs, rows)
        await self._derived.indexes.subtract()
        self._content.forget(shard.header.rows)
        # last: what a crash cuts short is not known as carried out, and is done when it is heard of again
        await self._settings.put(_KNOWN, encode_value([*sorted(self._catalog.withdrawn)]))
        return forgotten

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
            heard = await self._hear(listed)
            for cid, sealed in listed.withdrawals.items():
                if cid not in self._catalog.withdrawn:
                    await self.take(sealed)
        except CommonloreError as error:
            log.warning("the withdrawals of Datanet version %s were not carried out: %s", datanet, error)
            return False
        return heard

    async def _hear(self, listed: WithdrawalList) -> bool:
        """Differences first: they may tell which rows of an index are to go. None holds a withdrawal up."""
        try:
            await self._derived.indexes.hear(listed.differences, listed.withdrawals)
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
    listed = decode_value(raw, MAX_LIST_BYTES) if raw is not None else []
    return {to_cid(each) for each in listed if isinstance(each, str)} if isinstance(listed, list) else set()


def forget_jobs(jobs: Path, rows: Sequence[Row]) -> None:
    """Delete what training left that holds any of these rows, wherever it is (measurements, audits and tests
    of admission keep theirs in folders of their own), and what indexing wrote down."""
    gone = {(row.question, row.answer) for row in rows}
    for described in sorted((*jobs.rglob(JOB_FILE), *jobs.rglob(ADMISSION_FILE))):
        if _may_hold(described, gone):
            shutil.rmtree(described.parent, ignore_errors=True)
    for pattern in ("*.rows", "*.measured*"):
        for path in jobs.glob(f"attribution/{pattern}"):
            path.unlink(missing_ok=True)


def _may_hold(described: Path, gone: Set[tuple[str, str]]) -> bool:
    """Whether a folder holds one of these rows. What cannot be read, as where another version of this program
    wrote it, may hold them."""
    try:
        return not gone.isdisjoint(map(tuple, _rows_of(described)))
    except ConfigError:
        return True


def _rows_of(described: Path) -> list[Pair]:
    """The rows in a job's or an admission test's folder. Raises ConfigError."""
    if described.name == ADMISSION_FILE:
        return list(read_admission(described.parent).rows())
    job = read_job(described.parent)
    return [*job.rows, *job.heldout]


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
