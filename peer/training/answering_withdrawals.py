"""Which adapters of this peer a training takes the place of, since rows that they learnt from were withdrawn.

Rules of this file: nothing has to be said by hand: an adapter of the same name is answered, and so is every
other of this peer whose Datanets are all trained on again. What was found when an order began stands in its
folder, so that the same order makes the same adapter, whatever is announced meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import trio

from ...protocol.content.manifests import DatanetManifest
from ...protocol.content.retraining import Retrained
from ...protocol.encoding.codec import decode, encode
from ...protocol.errors import CommonloreError, ProtocolError
from ...protocol.gossip.adverts import AdapterRecord
from ...protocol.ids import Cid
from ...worker.factory.job import write_whole
from ..datanets.shards import PulledDatanet
from ..node import Node

RETRAINED_FILE = "retrained.cbor"
MAX_ADAPTERS, MAX_SHARDS = 64, 1_024


async def retrained_in(
    folder: Path, node: Node, alias: str, pulled: Sequence[PulledDatanet]
) -> Retrained | None:
    """What the training in this folder answers; found once, and read from then on."""
    noted = folder / RETRAINED_FILE
    raw = await trio.to_thread.run_sync(_read, noted)
    if raw is None:
        found = await find_retrained(node, alias, pulled)
        await trio.to_thread.run_sync(_note, noted, encode(found) if found else b"")
        return found
    try:
        return decode(Retrained, raw) if raw else None
    except ProtocolError:
        return None


async def find_retrained(node: Node, alias: str, pulled: Sequence[PulledDatanet]) -> Retrained | None:
    """The adapters that this peer announces and that learnt from shards withdrawn since, and these shards.
    None where there are none."""
    names = {datanet.manifest.name for datanet in pulled}
    adapters, shards = dict[Cid, None](), dict[Cid, None]()
    for record in node.catalog.announced_by(node.keys.peer.public):
        if not isinstance(record, AdapterRecord):
            continue
        versions = await _versions(node, record)
        gone = [s for version in versions for s in version.shards if s in node.catalog.withdrawn]
        if gone and (record.alias == alias or _names(versions) <= names):
            adapters[record.adapter] = None
            shards |= dict.fromkeys(gone)
    if not adapters:
        return None
    return Retrained(tuple(sorted(adapters))[:MAX_ADAPTERS], tuple(sorted(shards))[:MAX_SHARDS])


async def _versions(node: Node, record: AdapterRecord) -> list[DatanetManifest]:
    """The Datanet versions that an adapter learnt from; none where these cannot be read."""
    try:
        manifest = await node.catalog.adapter(record.adapter)
        return [await node.catalog.datanet(datanet) for datanet in manifest.datanets]
    except CommonloreError:
        return []


def _names(versions: Collection[DatanetManifest]) -> set[str]:
    return {version.name for version in versions}


def _note(path: Path, raw: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, raw)


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
