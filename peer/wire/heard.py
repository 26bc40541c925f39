"""The newest announcement of each kind and name by each peer: what gossip has told, and what reconciliation
passes on.

The rules of this file: only judged records come in. A higher `seq` replaces a lower one of the same key and
name; announcements of workers and peers are forgotten when their time is over, records of adapters, Datanets
and measurements stay. The whole and each key's part are bounded. Every change has a number, so that others
may ask for what is newer.
"""

from __future__ import annotations

import secrets
from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import NamedTuple, TypeVar, assert_never

from ...protocol.gossip.adverts import (
    ADVERT_LIFETIME_MS,
    AdapterRecord,
    Advert,
    DatanetRecord,
    MeasurementRecord,
    PeerAd,
    WorkerAd,
)
from ...protocol.signing.envelope import Sealed

MAX_RECORDS = 50_000
MAX_PER_KEY = 1_024

T = TypeVar("T", WorkerAd, PeerAd, AdapterRecord, DatanetRecord, MeasurementRecord)


class Slot(NamedTuple):
    """What a record replaces: the same peer's earlier one of this kind and name."""

    public_key: bytes
    kind: type[Advert]
    name: str


def name_of(record: Advert) -> str:
    """What a record is about, beside its peer: a worker's base, an alias, a Datanet's name; nothing for a
    PeerAd."""
    match record:
        case WorkerAd():
            return record.base
        case PeerAd():
            return ""
        case AdapterRecord():
            return record.alias
        case DatanetRecord():
            return record.name
        case MeasurementRecord():
            return record.adapter
        case _:
            assert_never(record)


class Heard:
    """The records one peer knows."""

    def __init__(self) -> None:
        self.instance = secrets.token_bytes(16)
        """Names this numbering; another one starts with every run."""
        self._slots: OrderedDict[Slot, tuple[int, Sealed[Advert]]] = OrderedDict()
        self._per_key: Counter[bytes] = Counter()
        self._version = 0

    @property
    def version(self) -> int:
        """The number of the latest change."""
        return self._version

    def take(self, sealed: Sealed[Advert]) -> bool:
        """Keep a judged record. False when it is not newer than what is known, or its key has too many."""
        slot = Slot(sealed.public_key, type(sealed.record), name_of(sealed.record))
        known = self._slots.get(slot)
        if known is not None and known[1].record.seq >= sealed.record.seq:
            return False
        if known is None and self._per_key[slot.public_key] >= MAX_PER_KEY:
            return False
        if known is None:
            self._per_key[slot.public_key] += 1
        self._version += 1
        self._slots[slot] = (self._version, sealed)
        self._slots.move_to_end(slot)
        while len(self._slots) > MAX_RECORDS:
            self._forget(next(iter(self._slots)))
        return True

    def of(self, kind: type[T], now_ms: int) -> Iterator[Sealed[T]]:
        """The live records of a kind, the least recently changed first."""
        for slot, (_, sealed) in list(self._slots.items()):
            if slot.kind is kind and is_live(sealed.record, now_ms):
                yield sealed  # type: ignore[misc]  # the slot's kind says so

    def since(self, version: int, now_ms: int) -> Iterator[Sealed[Advert]]:
        """The live records that changed after `version`, oldest change first."""
        newer: list[Sealed[Advert]] = []
        for number, sealed in reversed(self._slots.values()):
            if number <= version:
                break
            if is_live(sealed.record, now_ms):
                newer.append(sealed)
        return reversed(newer)

    def expire(self, now_ms: int) -> None:
        """Forget announcements whose time is over."""
        for slot, (_, sealed) in list(self._slots.items()):
            if not is_live(sealed.record, now_ms):
                self._forget(slot)

    def _forget(self, slot: Slot) -> None:
        del self._slots[slot]
        self._per_key[slot.public_key] -= 1
        if not self._per_key[slot.public_key]:
            del self._per_key[slot.public_key]


def is_live(record: Advert, now_ms: int) -> bool:
    """Whether an announcement is still worth passing on."""
    lasting = AdapterRecord | DatanetRecord | MeasurementRecord
    return isinstance(record, lasting) or record.issued_ms + ADVERT_LIFETIME_MS > now_ms
