"""What the Registry holds, from its events: every Datanet version and every adapter with its references."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...protocol.content.lineage import Ancestor
from ...protocol.errors import NotFound
from ...protocol.ids import Address, to_address
from ..calling.events import EventLog, EventReader
from ..calling.records import ChainEvent, DatanetEntry
from .calls import ContractCalls


@dataclass(frozen=True, slots=True)
class RegisteredDatanet:
    """A Datanet version under the account that registered it."""

    owner: Address
    name: str
    version: int
    entry: DatanetEntry


@dataclass(slots=True)
class _Records:
    """Everything registered, by record id, in the order of registration."""

    datanets: dict[bytes, RegisteredDatanet] = field(default_factory=dict[bytes, RegisteredDatanet])
    adapters: dict[bytes, Ancestor] = field(default_factory=dict[bytes, Ancestor])
    blocks: dict[bytes, int] = field(default_factory=dict[bytes, int])
    """In which block an adapter was registered."""


class Registrations:
    """The Registry's records. Blocking and thread-safe, like the client it belongs to."""

    def __init__(self, client: ContractCalls) -> None:
        names = ("DatanetRegistered", "AdapterRegistered")
        reader = EventReader(client.endpoint, "Registry", client.deployment.registry, names)
        self._endpoint = client.endpoint
        self._log = EventLog(reader, client.deployment.block)
        self._lock = threading.Lock()
        self._events: tuple[ChainEvent, ...] = ()
        self._records = _Records()

    def datanets(self) -> Mapping[bytes, RegisteredDatanet]:
        """Every Datanet version by its record id. Raises Unreachable, ChainError."""
        return self._read().datanets

    def find_datanet(self, entry: DatanetEntry) -> bytes | None:
        """The first record of a Datanet version that says just this, whoever registered it."""
        found = (id_ for id_, known in self.datanets().items() if known.entry == entry)
        return next(found, None)

    def ancestry(self, record_id: bytes) -> tuple[Ancestor, ...]:
        """An adapter's record, then every record reached through parents. Raises NotFound, Unreachable."""
        adapters, found = self._read().adapters, dict[bytes, Ancestor]()
        waiting = [record_id]
        while waiting:
            wanted = waiting.pop(0)
            if wanted in found:
                continue
            if wanted not in adapters:
                raise NotFound(f"no adapter is registered as 0x{wanted.hex()}")
            found[wanted] = adapters[wanted]
            waiting += found[wanted].parents
        return tuple(found.values())

    def adapters(self) -> Collection[bytes]:
        """The record ids of all adapters. Raises Unreachable, ChainError."""
        return self._read().adapters.keys()

    def beacon_of(self, record_id: bytes) -> bytes:
        """The hash of the block in which an adapter was registered: nobody knew it before, and an adapter is
        registered once. Empty where it is not registered. Raises Unreachable, ChainError."""
        number = self._read().blocks.get(record_id)
        if number is None:
            return b""
        return self._endpoint.attempt("beacon", lambda web3: bytes(web3.eth.get_block(number)["hash"]))

    def _read(self) -> _Records:
        events = self._log.all()
        with self._lock:
            if events != self._events:
                self._records = _records_of(events)
                self._events = events
            return self._records


def _records_of(events: tuple[ChainEvent, ...]) -> _Records:
    records = _Records()
    for event in events:
        given = event.arguments
        record_id = bytes(given["recordId"])
        if event.name == "DatanetRegistered":
            records.datanets[record_id] = _datanet(given)
        else:
            made = given["registration"]
            references = (tuple(bytes(each) for each in made[name]) for name in ("datanets", "parents"))
            records.adapters[record_id] = Ancestor(record_id, *references)
            records.blocks[record_id] = event.block
    return records


def _datanet(given: Mapping[str, Any]) -> RegisteredDatanet:
    entry = DatanetEntry(bytes(given["manifest"]), bytes(given["contributorsRoot"]), bytes(given["licence"]))
    return RegisteredDatanet(to_address(given["owner"]), given["name"], int(given["version"]), entry)
