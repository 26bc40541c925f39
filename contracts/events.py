"""Reading contracts' events forwards, never twice: nodes answer log queries slowly and in limited ranges."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from ..protocol.errors import ChainError
from ..protocol.ids import Address
from .endpoint import Endpoint
from .records import ChainEvent

BLOCKS_A_QUERY = 2_000
"""What public endpoints commonly allow."""


class EventReader:
    """Reads one contract's events of some kinds. Thread-safe."""

    def __init__(self, endpoint: Endpoint, contract: str, address: Address, names: Sequence[str]) -> None:
        self._endpoint = endpoint
        self._contract_name = contract
        self._address = address
        self._names = frozenset(names)

    def read(self, first: int) -> tuple[tuple[ChainEvent, ...], int]:
        """(events from block `first` to the latest, the block to go on from next time)."""
        head = self._endpoint.attempt("read events", lambda web3: web3.eth.block_number)
        found: list[ChainEvent] = []
        for start in range(first, head + 1, BLOCKS_A_QUERY):
            found += self._range(start, min(start + BLOCKS_A_QUERY - 1, head))
        return tuple(found), max(first, head + 1)

    def _range(self, first: int, last: int) -> list[ChainEvent]:
        contract = self._endpoint.contract(self._contract_name, self._address)
        query: Any = {"address": contract.address, "fromBlock": first, "toBlock": last}
        logs = self._endpoint.attempt("read events", lambda web3: web3.eth.get_logs(query))
        return [event for log in logs if (event := decode_log(contract, log)) and event.name in self._names]


class EventLog:
    """All events of a reader since a block, kept in memory and brought up to date on each reading.
    Thread-safe."""

    def __init__(self, reader: EventReader, first: int) -> None:
        self._reader = reader
        self._lock = threading.Lock()
        self._next = first
        self._events: list[ChainEvent] = []

    def all(self) -> tuple[ChainEvent, ...]:
        """Raises Unreachable, ChainError; what was read before is kept."""
        with self._lock:
            events, self._next = self._reader.read(self._next)
            self._events.extend(events)
            return tuple(self._events)


def decode_log(contract: Any, log: Any) -> ChainEvent | None:
    """A contract's log as an event; None for a log of a kind its ABI does not have."""
    from web3.exceptions import Web3Exception, Web3ValueError

    topics = log["topics"]
    try:
        event = contract.get_event_by_topic("0x" + bytes(topics[0]).hex())
    except (IndexError, Web3ValueError):
        return None
    try:
        data = event().process_log(log)
    except Web3Exception as error:
        raise ChainError(f"read events: {error}") from error
    transaction = "0x" + bytes(log["transactionHash"]).hex()
    return ChainEvent(data["event"], dict(data["args"]), int(log["blockNumber"]), transaction)
