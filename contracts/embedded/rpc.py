"""Ethereum's JSON-RPC over the embedded chain: the methods that clients, wallets and scripts need, and the
clock's.

One table lists every method. State is readable at the latest block only. `evm_increaseTime` and `evm_mine`
are those other development chains have. Parameters come from anyone on this machine: what is ill-formed is
answered with -32602."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ...protocol.errors import ChainError
from ...protocol.ids import ZERO_ADDRESS, Address, checksummed
from .evm import EmbeddedChain, Reverted, Snapshot
from .facts import (
    GAS_LIMIT,
    BlockFacts,
    CallRequest,
    Mined,
    block_json,
    hex_of,
    log_json,
    receipt_json,
    transaction_json,
)

MAX_LOG_BLOCKS = 100_000
_PRIORITY_FEE_WEI = 1_000_000_000


class RpcError(ChainError):
    """An error answer: JSON-RPC code, message, and the return data of a revert."""

    code = "rpc"

    def __init__(self, number: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.number = number
        self.data = data


class Journal(Protocol):
    """Where state-changing calls are written before they are answered."""

    def sent(self, raw: bytes, timestamp: int, block: bytes) -> None: ...

    def mined(self, timestamp: int, block: bytes) -> None: ...

    def jumped(self, offset: int) -> None: ...


@dataclass(frozen=True, slots=True)
class _Saved:
    chain: Snapshot
    offset: int


class ChainRpc:
    """Answers requests, from any number of threads.

    `clock` gives Unix seconds; `offset` is what was jumped beyond it.
    """

    def __init__(
        self, chain: EmbeddedChain, clock: Callable[[], int], journal: Journal | None = None, offset: int = 0
    ) -> None:
        self.chain = chain
        self.offset = offset
        self._clock = clock
        self._journal = journal
        self._lock = threading.Lock()
        self._saved: dict[int, _Saved] = {}
        self._methods: dict[str, Callable[[list[Any]], Any]] = self._table()

    def _table(self) -> dict[str, Callable[[list[Any]], Any]]:
        chain = self.chain
        return {
            "web3_clientVersion": lambda _: "commonlore-devchain",
            "net_version": lambda _: str(chain.chain_id),
            "eth_chainId": lambda _: hex(chain.chain_id),
            "eth_syncing": lambda _: False,
            "eth_accounts": lambda _: [],
            "eth_blockNumber": lambda _: hex(chain.head.number),
            "eth_gasPrice": lambda _: hex(chain.pending(self.now()).base_fee + _PRIORITY_FEE_WEI),
            "eth_maxPriorityFeePerGas": lambda _: hex(_PRIORITY_FEE_WEI),
            "eth_getBalance": lambda p: hex(chain.balance(self._account_now(p))),
            "eth_getTransactionCount": lambda p: hex(chain.nonce(self._account_now(p))),
            "eth_getCode": lambda p: hex_of(chain.code(self._account_now(p))),
            "eth_call": lambda p: hex_of(chain.call(self._request(p), self.now())[0]),
            "eth_estimateGas": lambda p: hex(chain.estimate(self._request(p), self.now())),
            "eth_sendRawTransaction": lambda p: hex_of(self._send(_bytes(p[0]))),
            "eth_getTransactionReceipt": lambda p: self._described(p, receipt_json),
            "eth_getTransactionByHash": lambda p: self._described(p, transaction_json),
            "eth_getBlockByNumber": lambda p: self._block_json(self._block_named(p[0])),
            "eth_getBlockByHash": lambda p: self._block_json(self._block_hashed(_bytes(p[0]))),
            "eth_getLogs": lambda p: self._logs(p[0]),
            "evm_increaseTime": lambda p: hex(self._jump(_integer(p[0]))),
            "evm_mine": lambda _: self._mine(),
            "evm_snapshot": lambda _: self._save(),
            "evm_revert": lambda p: self._revert(_integer(p[0])),
        }

    def handle(self, method: str, params: list[Any]) -> Any:
        """The JSON result of one call. Raises RpcError."""
        if method not in self._methods:
            raise RpcError(-32601, f"the devchain has no method {method[:80]}")
        try:
            with self._lock:
                return self._methods[method](params)
        except Reverted as error:
            raise RpcError(3, str(error), hex_of(error.data)) from error
        except RpcError:
            raise
        except ChainError as error:
            raise RpcError(-32000, str(error)) from error
        except (IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise RpcError(-32602, f"ill-formed parameters of {method}: {error!r}") from error

    def now(self) -> int:
        """The chain's time: the clock's, plus every jump."""
        return self._clock() + self.offset

    # ---- changing state

    def _send(self, raw: bytes) -> bytes:
        now = self.now()
        hash_ = self.chain.send(raw, now)
        if self._journal is not None:
            self._journal.sent(raw, self.chain.head.timestamp, self.chain.head.hash)
        return hash_

    def _mine(self) -> str:
        self.chain.mine(self.now())
        if self._journal is not None:
            self._journal.mined(self.chain.head.timestamp, self.chain.head.hash)
        return "0x0"

    def _jump(self, seconds: int) -> int:
        if seconds < 0:
            raise RpcError(-32602, "time runs forwards only")
        self.offset += seconds
        if self._journal is not None:
            self._journal.jumped(self.offset)
        return self.offset

    def _save(self) -> str:
        if self._journal is not None:
            raise RpcError(-32000, "a devchain with a state file cannot take snapshots")
        number = len(self._saved) + 1
        self._saved[number] = _Saved(self.chain.snapshot(), self.offset)
        return hex(number)

    def _revert(self, number: int) -> bool:
        if number not in self._saved:
            return False
        saved = self._saved[number]
        self._saved = {known: value for known, value in self._saved.items() if known < number}
        self.chain.restore(saved.chain)
        self.offset = saved.offset
        return True

    # ---- reading

    def _account_now(self, params: list[Any]) -> Address:
        self._require_latest(params[1] if len(params) > 1 else "latest")
        return _address(params[0])

    def _request(self, params: list[Any]) -> CallRequest:
        fields: Mapping[str, Any] = params[0]
        self._require_latest(params[1] if len(params) > 1 else "latest")
        to = fields.get("to")
        return CallRequest(
            sender=_address(fields.get("from") or checksummed(ZERO_ADDRESS)),
            to=_address(to) if to else None,
            data=_bytes(fields.get("data") or fields.get("input") or "0x"),
            value=_integer(fields.get("value") or "0x0"),
            gas=min(_integer(fields.get("gas") or hex(GAS_LIMIT)), GAS_LIMIT),
        )

    def _require_latest(self, block: Any) -> None:
        if block in ("latest", "pending", "safe", "finalized", hex(self.chain.head.number)):
            return
        raise RpcError(-32000, f"the devchain keeps only the latest state, not that of block {block!r:.80}")

    def _block_named(self, name: Any) -> BlockFacts | None:
        match name:
            case "pending":
                return self.chain.pending(self.now())
            case "latest" | "safe" | "finalized":
                return self.chain.head
            case _:
                return self.chain.block(self._number(name))

    def _number(self, name: Any) -> int:
        named = {"earliest": 0, "latest": self.chain.head.number, "pending": self.chain.head.number}
        return named[name] if name in named else _integer(name)

    def _block_hashed(self, hash_: bytes) -> BlockFacts | None:
        numbers = range(self.chain.head.number, -1, -1)
        return next((b for n in numbers if (b := self.chain.block(n)) is not None and b.hash == hash_), None)

    def _block_json(self, block: BlockFacts | None) -> dict[str, Any] | None:
        return None if block is None else block_json(block, block.number > self.chain.head.number)

    def _described(self, params: list[Any], describe: Callable[[Mined, BlockFacts], Any]) -> Any:
        mined = self.chain.transaction(_bytes(params[0]))
        return None if mined is None else describe(mined, self._block_at(mined.block))

    def _block_at(self, number: int) -> BlockFacts:
        return self.chain.block(number) or self.chain.head

    def _logs(self, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        first, last = (
            self._number(query.get("fromBlock", "latest")),
            self._number(query.get("toBlock", "latest")),
        )
        if last - first > MAX_LOG_BLOCKS:
            raise RpcError(-32005, f"more than {MAX_LOG_BLOCKS} blocks asked for at once")
        listed = query.get("address") or []
        addresses = {_address(text) for text in ([listed] if isinstance(listed, str) else listed)}
        wanted = [_topic_choice(topic) for topic in query.get("topics") or []]
        found = (log for log in self.chain.logs(first, last) if not addresses or log.address in addresses)
        return [
            log_json(log, self._block_at(log.block)) for log in found if _topics_match(log.topics, wanted)
        ]


def _topic_choice(topic: Any) -> frozenset[bytes] | None:
    if topic is None:
        return None
    return frozenset(_bytes(text) for text in ([topic] if isinstance(topic, str) else topic))


def _topics_match(topics: tuple[bytes, ...], wanted: list[frozenset[bytes] | None]) -> bool:
    if len(wanted) > len(topics):
        return False
    return all(choice is None or topic in choice for topic, choice in zip(topics, wanted, strict=False))


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _integer(value: Any) -> int:
    return value if isinstance(value, int) else int(value, 16)


def _address(text: str) -> Address:
    raw = _bytes(text)
    if len(raw) != 20:
        raise ValueError(f"not an account address: {text[:80]!r}")
    return Address(raw)
