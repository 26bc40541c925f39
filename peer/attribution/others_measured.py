"""What others than its author have measured of an adapter, and say under their own seals.

Rules of this file: nobody checks their word here, and it changes no pay, or anybody could void an honest
adapter's scores. It is told to whoever looks, who can measure himself. What cannot be had, is of another
index or is no measurement is left out.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from ...protocol.attribution.faithfulness import Faithfulness, disagree, from_ppm, open_measurement
from ...protocol.content.manifests import AdapterManifest
from ...protocol.encoding.codec import record_cid
from ...protocol.errors import InvalidSignature, NotFound, RemoteProtocolError, Unreachable
from ...protocol.gossip.adverts import MeasurementRecord
from ...protocol.ids import CHUNK_SIZE, Cid, PeerId, peer_id_of
from .measured import BlobSource, with_interval

PATIENCE_S = 10.0
"""How long is waited for all of them together."""
log = logging.getLogger("commonlore.peer.attribution.others_measured")


class MeasurementSource(Protocol):
    """Who says to have measured what."""

    def measurements_of(self, adapter: Cid) -> Sequence[MeasurementRecord]:
        """The latest record of each peer that says to have measured this adapter."""
        ...


@dataclass(frozen=True, slots=True)
class OtherMeasurement:
    """One peer's."""

    measurer: PeerId
    found: Faithfulness


async def others_of_index(
    content: BlobSource, known: MeasurementSource, manifest: AdapterManifest, index: Cid | None
) -> tuple[OtherMeasurement, ...]:
    """What others say of this index of an adapter, in the order of their keys."""
    said: list[OtherMeasurement] = []
    records = known.measurements_of(record_cid(manifest))
    with trio.move_on_after(PATIENCE_S):
        for record in sorted(records, key=lambda each: each.measurer):
            found = await _read(content, record, manifest)
            if found is not None and found.index == index:
                said.append(OtherMeasurement(peer_id_of(record.measurer), found))
    return tuple(said)


async def _read(
    content: BlobSource, record: MeasurementRecord, manifest: AdapterManifest
) -> Faithfulness | None:
    if record.measurer == manifest.author:
        return None
    try:
        raw = await content.get(record.measurement, CHUNK_SIZE)
        return open_measurement(raw, manifest, record.measurer)
    except (NotFound, Unreachable, RemoteProtocolError, InvalidSignature) as error:
        log.info("a measurement by %s is not shown: %s", peer_id_of(record.measurer), error)
        return None


def tell_others(others: Sequence[OtherMeasurement], announced: Faithfulness | None) -> str | None:
    """What others found, beside what the author announced of the same index, in a sentence; None where nobody
    says anything."""
    if not others:
        return None
    told = "; ".join(f"{each.measurer} {_found(each.found, announced)}" for each in others)
    return (
        f"{len(others)} other{'s' if len(others) > 1 else ''} measured these scores, unchecked, and no pay "
        f"changes by it: {told}"
    )


def _found(found: Faithfulness, announced: Faithfulness | None) -> str:
    reached = found.found
    chance = "above chance" if found.above_chance else "not above chance"
    told = f"{with_interval(reached.lds_ppm, reached.error_ppm)} ({chance})"
    if announced is None or announced.index != found.index:
        return told
    if not disagree(announced, found):
        return f"{told}, which agrees with the author"
    return f"{told}, which contradicts the author's {from_ppm(announced.found.lds_ppm):+.2f}"
