"""A devchain that behaves as public chains do at their worst: silent, full, dear, and taking blocks back.

It stands before a devchain as a provider does, and ships with the package so that whoever builds on it can
hold the same things: nothing here is used by a node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...protocol.ids import keccak256
from .devchain import Devchain
from .evm import Snapshot
from .provider import LocalProvider


@dataclass(frozen=True, slots=True)
class _Mark:
    """The chain before a block was made."""

    snapshot: Snapshot
    number: int


class UnsteadyChain:
    """Set `is_down` for silence, `base_fee_wei` for a price of gas (transactions that offer less wait),
    `holds` to keep what is sent waiting. Not for several threads."""

    def __init__(self, devchain: Devchain) -> None:
        self.devchain = devchain
        self.is_down = False
        self.holds = False
        self.base_fee_wei = 0
        self.waiting: list[dict[str, Any]] = []
        """Requests whose transactions wait to be mined."""
        self._marks: list[_Mark] = []

    def provider(self) -> LocalProvider:
        """A web3 provider for clients in this process."""
        return LocalProvider(self.respond)

    def respond(self, request: Any) -> Any:
        """As `Devchain.respond`. Raises ConnectionRefusedError while the chain is down."""
        if self.is_down:
            raise ConnectionRefusedError("the chain is down")
        if request["method"] == "eth_sendRawTransaction":
            return self._send(request)
        answer = self.devchain.respond(request)
        if request["method"] == "eth_getBlockByNumber" and answer.get("result") and self.base_fee_wei:
            answer["result"]["baseFeePerGas"] = hex(self.base_fee_wei)
        return answer

    def mine_waiting(self) -> None:
        """Mines what waits and offers enough."""
        due, self.waiting = self.waiting, []
        for request in due:
            if "error" in self._send(request):
                self.waiting = [other for other in self.waiting if other is not request]

    def replace_blocks(self, count: int) -> None:
        """Takes the last `count` blocks back and makes `count + 1` empty ones, a second later each, in their
        place. What was sent in them is forgotten, as where a node's pool is full."""
        marks = self._marks[-count:]
        self._marks = self._marks[:-count]
        self.devchain.rpc.chain.restore(marks[0].snapshot)
        for later in range(count + 1):
            self.devchain.rpc.chain.mine(self.devchain.rpc.now() + later)

    def _send(self, request: dict[str, Any]) -> Any:
        offered, hash_ = _offer_of(request["params"][0])
        if self.holds or offered < self.base_fee_wei:
            self.waiting.append(request)
            return {"jsonrpc": "2.0", "id": request["id"], "result": "0x" + hash_.hex()}
        chain = self.devchain.rpc.chain
        mark = _Mark(chain.snapshot(), chain.head.number)
        answer = self.devchain.respond(request)
        if chain.head.number > mark.number:
            self._marks.append(mark)
        return answer


def _offer_of(raw: str) -> tuple[int, bytes]:
    """The most that a signed transaction pays for a unit of gas, in wei, and its hash."""
    from eth_account.typed_transactions.typed_transaction import TypedTransaction
    from hexbytes import HexBytes

    transaction = TypedTransaction.from_bytes(HexBytes(raw))
    return int(transaction.as_dict()["maxFeePerGas"]), keccak256(bytes.fromhex(raw.removeprefix("0x")))
