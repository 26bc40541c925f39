"""What the embedded chain knows about blocks, transactions and events, and how JSON-RPC writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...protocol.ids import Address, checksummed

GAS_LIMIT = 30_000_000


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A message to execute without a transaction. `to` None creates a contract."""

    sender: Address
    to: Address | None
    data: bytes
    value: int = 0
    gas: int = GAS_LIMIT


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One event, where it happened."""

    address: Address
    topics: tuple[bytes, ...]
    data: bytes
    block: int
    index: int
    transaction: bytes


@dataclass(frozen=True, slots=True)
class Mined:
    """A transaction with its outcome. There is one a block, so its index is always 0."""

    hash: bytes
    sender: Address
    to: Address | None
    nonce: int
    block: int
    gas_used: int
    gas_price: int
    succeeded: bool
    created: Address | None
    logs: tuple[LogEntry, ...]


@dataclass(frozen=True, slots=True)
class BlockFacts:
    """A mined block, or the pending one (`hash` is then its parent's)."""

    number: int
    hash: bytes
    parent: bytes
    timestamp: int
    base_fee: int
    gas_used: int
    transactions: tuple[bytes, ...]


def hex_of(data: bytes) -> str:
    """0x and hexadecimal digits."""
    return "0x" + data.hex()


def block_json(block: BlockFacts, pending: bool) -> dict[str, Any]:
    """A block with its transactions' hashes; a pending one has no hash yet."""
    return {
        "number": hex(block.number),
        "hash": None if pending else hex_of(block.hash),
        "parentHash": hex_of(block.parent),
        "timestamp": hex(block.timestamp),
        "baseFeePerGas": hex(block.base_fee),
        "gasUsed": hex(block.gas_used),
        "gasLimit": hex(GAS_LIMIT),
        "transactions": [hex_of(hash_) for hash_ in block.transactions],
    }


def transaction_json(mined: Mined, block: BlockFacts) -> dict[str, Any]:
    """A mined transaction."""
    return {"hash": hex_of(mined.hash), "nonce": hex(mined.nonce), **_place(mined, block)}


def receipt_json(mined: Mined, block: BlockFacts) -> dict[str, Any]:
    """A mined transaction's outcome."""
    return {
        "transactionHash": hex_of(mined.hash),
        **_place(mined, block),
        "contractAddress": None if mined.created is None else checksummed(mined.created),
        "gasUsed": hex(mined.gas_used),
        "cumulativeGasUsed": hex(mined.gas_used),
        "effectiveGasPrice": hex(mined.gas_price),
        "status": hex(mined.succeeded),
        "type": "0x2",
        "logs": [log_json(log, block) for log in mined.logs],
    }


def _place(mined: Mined, block: BlockFacts) -> dict[str, Any]:
    return {
        "from": checksummed(mined.sender),
        "to": None if mined.to is None else checksummed(mined.to),
        "blockNumber": hex(block.number),
        "blockHash": hex_of(block.hash),
        "transactionIndex": "0x0",
    }


def log_json(log: LogEntry, block: BlockFacts) -> dict[str, Any]:
    """An event."""
    return {
        "address": checksummed(log.address),
        "topics": [hex_of(topic) for topic in log.topics],
        "data": hex_of(log.data),
        "blockNumber": hex(block.number),
        "blockHash": hex_of(block.hash),
        "transactionHash": hex_of(log.transaction),
        "transactionIndex": "0x0",
        "logIndex": hex(log.index),
        "removed": False,
    }
