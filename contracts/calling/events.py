"""Reading contracts' events forwards, never twice, and again where the chain took blocks back.

Rules of this file:

- Nodes answer log queries slowly, in limited ranges and of limited size: a refused range is halved.
- The head's hash is remembered with each reading. A remembered block that the chain no longer has was
  replaced: events above the last one that it still has are forgotten and read anew. Where none of them is
  left, everything is read anew.
- A head that changes while its logs are read is read once more: what is kept belongs to one chain.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...protocol.errors import ChainError, Unreachable
from ...protocol.ids import Address
from .endpoint import Endpoint
from .records import ChainEvent

BLOCKS_A_QUERY = 2_000
"""What public endpoints commonly allow."""
HEADS_KEPT = 256
"""Remembered heads: how far back a replacement of blocks is followed without reading everything again."""
_STEADY_READINGS = 8


@dataclass(frozen=True, slots=True)
class Head:
    """A block of the chain as it was: its number and hash."""

    number: int
    hash: bytes


class EventReader:
    """Reads one contract's events of some kinds. Thread-safe."""

    def __init__(self, endpoint: Endpoint, contract: str, address: Address, names: Sequence[str]) -> None:
        self._endpoint = endpoint
        self._contract_name = contract
        self._address = address
        self._names = frozenset(names)

    def head(self) -> Head:
        """The chain's latest block."""
        return self._block("latest") or Head(0, b"")

    def has(self, head: Head) -> bool:
        """Whether the chain still has this block."""
        return self._block(head.number) == head

    def _block(self, which: Any) -> Head | None:
        def read(web3: Any) -> Head | None:
            from web3.exceptions import BlockNotFound  # here, behind the endpoint: it imports web3 alone

            try:
                block = web3.eth.get_block(which)
            except BlockNotFound:
                return None
            return Head(int(block["number"]), bytes(block["hash"]))

        return self._endpoint.attempt("read events", read)

    def read(self, first: int, last: int) -> list[ChainEvent]:
        """The events of blocks `first` to `last`, in order."""
        found: list[ChainEvent] = []
        for start in range(first, last + 1, BLOCKS_A_QUERY):
            found += self._range(start, min(start + BLOCKS_A_QUERY - 1, last))
        return found

    def _range(self, first: int, last: int) -> list[ChainEvent]:
        contract = self._endpoint.contract(self._contract_name, self._address)
        query: Any = {"address": contract.address, "fromBlock": first, "toBlock": last}
        try:
            logs = self._endpoint.attempt("read events", lambda web3: web3.eth.get_logs(query))
        except ChainError:
            if first == last:
                raise
            middle = (first + last) // 2  # too many blocks or logs for this endpoint
            return self._range(first, middle) + self._range(middle + 1, last)
        return [event for log in logs if (event := decode_log(contract, log)) and event.name in self._names]


class EventLog:
    """All events of a reader since a block, kept in memory and brought up to date on each reading.
    Thread-safe."""

    def __init__(self, reader: EventReader, first: int) -> None:
        self._reader = reader
        self._lock = threading.Lock()
        self._first = first
        self._events: list[ChainEvent] = []
        self._heads: list[Head] = []
        self.replaced = 0
        """How often blocks that had been read were replaced."""

    def all(self) -> tuple[ChainEvent, ...]:
        """Raises Unreachable, ChainError; what was read before is kept."""
        with self._lock:
            for _ in range(_STEADY_READINGS):
                if self._catch_up():
                    return tuple(self._events)
        raise Unreachable("read events: the chain's head keeps being replaced; try again")

    def _catch_up(self) -> bool:
        """Reads on to the head; whether that was still the head's chain afterwards."""
        self._forget_replaced()
        head = self._reader.head()
        first = self._heads[-1].number + 1 if self._heads else self._first
        if head.number < first:
            return True
        events = self._reader.read(first, head.number)
        if not self._reader.has(head) or (self._heads and not self._reader.has(self._heads[-1])):
            return False
        self._events += events
        self._heads = [*self._heads[1 - HEADS_KEPT :], head]
        return True

    def _forget_replaced(self) -> None:
        """Drops what was read of blocks that the chain has taken back."""
        kept = len(self._heads)
        while kept and not self._reader.has(self._heads[kept - 1]):
            kept -= 1
        if kept == len(self._heads):
            return
        self.replaced += 1
        del self._heads[kept:]
        last = self._heads[-1].number if self._heads else self._first - 1
        self._events = [event for event in self._events if event.block <= last]


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
