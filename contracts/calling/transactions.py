"""Signing and sending: one account's transactions, numbered without gaps from any number of threads.

A transaction is estimated first, so that what would revert costs nothing and tells its reason. It is
numbered, signed and handed over under one lock, and repeated as the very same bytes while the endpoint is
silent: it can be mined once at most. While it waits it is handed over again (a block that held it may have
been taken back), and with a higher fee where gas has become dearer than it offers; the number stays, so one
of them at most is mined. If the outcome stays unknown, the next call asks the chain for its number again."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...protocol.errors import ChainError, DeadlineExceeded, Unreachable
from ...protocol.ids import Address, checksummed, to_address
from ...protocol.signing.keys import AccountKey
from .endpoint import Endpoint, GasTooDear, rejected

if TYPE_CHECKING:
    from web3 import Web3
    from web3.contract.contract import ContractConstructor, ContractFunction

MAX_GAS = 12_000_000
"""A transaction's limit: below EIP-7825's cap of 16.78M with room to spare.

Batches are sized to stay under 10M.
"""
_FIRST_POLL_S, _LONGEST_POLL_S = 0.01, 1.0
_RENUMBERINGS = 4
_FEES = ("maxFeePerGas", "maxPriorityFeePerGas", "gasPrice")
_BUMP = (9, 8)
"""Nodes replace a waiting transaction by one whose fees are at least an eighth higher."""
_KNOWN = ("already known", "known transaction", "already imported")
_NUMBERING = ("nonce too low", "nonce too high", "replacement transaction underpriced", "invalid nonce")


@dataclass(frozen=True, slots=True)
class Sending:
    """How an account sends: the most it pays for a unit of gas (wei; 0: whatever it costs), when a
    transaction that waits is handed over again, and when waiting for it ends (seconds)."""

    max_fee_wei: int = 0
    again_s: float = 15.0
    confirm_s: float = 120.0


@dataclass(slots=True)
class _Waiting:
    """A transaction on its way: its fields, and the hashes of every version that was handed over."""

    fields: dict[str, Any]
    raw: bytes
    hashes: list[bytes]


@dataclass(frozen=True, slots=True)
class Sent:
    """A mined transaction that succeeded. `logs` are as JSON-RPC gives them (formatted by web3)."""

    hash: bytes
    block: int
    gas_used: int
    created: Address | None
    logs: tuple[Any, ...]

    @property
    def text(self) -> str:
        """The hash as block explorers want it."""
        return "0x" + self.hash.hex()


class Transactor:
    """An account that sends. `secret` is its secp256k1 key, 32 bytes."""

    def __init__(self, endpoint: Endpoint, secret: bytes, sending: Sending | None = None) -> None:
        self._endpoint = endpoint
        self._secret = secret
        self._sending = sending or Sending()
        self.address = AccountKey.from_secret(secret).address
        self._numbering = threading.Lock()
        self._next_nonce: int | None = None
        self._chain_id: int | None = None

    def send(self, what: str, call: ContractFunction | ContractConstructor) -> Sent:
        """Sends a contract call and waits until it is mined.

        Raises Rejected with the contract's reason, GasTooDear (nothing was sent), NoGas, ChainError,
        Unreachable, DeadlineExceeded (sent, but not mined in time)."""
        options: Any = {"from": checksummed(self.address)}
        estimated = self._endpoint.attempt(what, lambda _: call.estimate_gas(options))
        limit = min(estimated * 6 // 5, MAX_GAS)
        blank: Any = {**options, "gas": limit, "value": 0, "nonce": 0, "chainId": 0, "gasPrice": 0}
        built: Any = call.build_transaction(blank)  # complete already: this asks nobody
        fields = {
            name: built[name] for name in ("to", "data", "gas", "value") if built.get(name) not in (b"", "")
        }
        return self._finish(what, self._hand_over(what, fields), call)

    def pay(self, what: str, to: Address, wei: int) -> Sent:
        """Sends ETH."""
        fields = {"to": checksummed(to), "gas": 21_000, "value": wei}
        return self._finish(what, self._hand_over(what, fields), None)

    def _hand_over(self, what: str, fields: dict[str, Any]) -> _Waiting:
        """Numbers, signs and submits."""
        priced = fields | self._endpoint.attempt(what, _current_fees)
        self._require_cheap(what, priced)
        with self._numbering:
            try:
                return self._number_and_submit(what, priced)
            except (ChainError, Unreachable):
                self._next_nonce = None
                raise

    def _require_cheap(self, what: str, priced: dict[str, Any]) -> None:
        """The fee offered is twice the base fee and a tip: half of it is what gas costs now."""
        limit, price = self._sending.max_fee_wei, _fee_of(priced) // 2
        if limit and price > limit:
            raise GasTooDear(
                f"{what}: gas costs {price / 10**9:.3g} gwei, and this node pays {limit / 10**9:.3g} at "
                "most; it waits until gas is cheaper (or raise max_gas_gwei)"
            )

    def _number_and_submit(self, what: str, fields: dict[str, Any]) -> _Waiting:
        for _ in range(_RENUMBERINGS):
            nonce = self._take_nonce(what)
            numbered = {**fields, "nonce": nonce, "chainId": self._chain_id}
            raw, hash_ = self._sign(numbered)
            if self._submit(what, raw, hash_):
                self._next_nonce = nonce + 1
                return _Waiting(numbered, raw, [hash_])
            self._next_nonce = None  # another program sends from this account: ask again
        account = checksummed(self.address)
        raise ChainError(
            f"{what}: another program sends from {account} at the same time; give each its own key"
        )

    def _take_nonce(self, what: str) -> int:
        if self._chain_id is None:
            self._chain_id = self._endpoint.attempt(what, lambda web3: web3.eth.chain_id)
        if self._next_nonce is None:
            account: Any = checksummed(self.address)
            self._next_nonce = self._endpoint.attempt(
                what, lambda web3: web3.eth.get_transaction_count(account, "pending")
            )
        return self._next_nonce

    def _sign(self, transaction: dict[str, Any]) -> tuple[bytes, bytes]:
        from eth_account import Account

        signed = Account.sign_transaction(transaction, self._secret)
        return bytes(signed.raw_transaction), bytes(signed.hash)

    def _submit(self, what: str, raw: bytes, hash_: bytes) -> bool:
        """Whether the chain has this very transaction; False if its number is wrong."""
        try:
            self._endpoint.attempt(what, lambda web3: web3.eth.send_raw_transaction(raw))
        except ChainError as error:
            words = str(error).lower()
            if any(known in words for known in _KNOWN):
                return True
            if not any(wrong in words for wrong in _NUMBERING):
                raise
            # "too low" is also what a repetition hears after the first, unanswered sending was mined
            return self._receipt(what, hash_) is not None
        return True

    def _finish(self, what: str, waiting: _Waiting, call: Any) -> Sent:
        receipt = self._await(what, waiting)
        if receipt["status"] != 1:
            self._explain(what, call)
        created = receipt.get("contractAddress")
        return Sent(
            hash=bytes(receipt["transactionHash"]),
            block=int(receipt["blockNumber"]),
            gas_used=int(receipt["gasUsed"]),
            created=None if created is None else to_address(created),
            logs=tuple(receipt["logs"]),
        )

    def _await(self, what: str, waiting: _Waiting) -> Any:
        began = time.monotonic()
        again, pause = began + self._sending.again_s, _FIRST_POLL_S
        while (receipt := self._any_receipt(what, waiting)) is None:
            now = time.monotonic()
            if now > began + self._sending.confirm_s:
                self._renumber()
                raise DeadlineExceeded(
                    f"{what}: transaction 0x{waiting.hashes[-1].hex()} is not mined after "
                    f"{now - began:.0f} s; it may be mined later"
                )
            if now > again:
                self._hand_over_again(what, waiting)
                again = now + self._sending.again_s
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_POLL_S)
        return receipt

    def _renumber(self) -> None:
        """The next transaction asks the chain for its number: the waiting one may never be mined."""
        with self._numbering:
            self._next_nonce = None

    def _hand_over_again(self, what: str, waiting: _Waiting) -> None:
        """The same bytes, or, where gas costs more than they offer, the same call at a higher fee."""
        now = self._endpoint.attempt(what, _current_fees)
        if 2 * _fee_of(waiting.fields) > _fee_of(
            now
        ):  # what is offered covers a base fee of half the new offer
            self._submit(what, waiting.raw, waiting.hashes[-1])
            return
        self._require_cheap(what, now)
        raised = {
            name: max(now[name], _bumped(waiting.fields[name])) for name in _FEES if name in waiting.fields
        }
        waiting.fields |= raised
        waiting.raw, hash_ = self._sign(waiting.fields)
        waiting.hashes.append(hash_)
        self._submit(what, waiting.raw, hash_)

    def _any_receipt(self, what: str, waiting: _Waiting) -> Any | None:
        receipts = (self._receipt(what, hash_) for hash_ in waiting.hashes)
        return next((receipt for receipt in receipts if receipt is not None), None)

    def _receipt(self, what: str, hash_: bytes) -> Any | None:
        def get(web3: Web3) -> Any | None:
            from web3.exceptions import (
                TransactionNotFound,  # here, behind the endpoint: it imports web3 alone
            )

            try:
                return web3.eth.get_transaction_receipt(hash_)  # type: ignore[arg-type]
            except TransactionNotFound:
                return None

        return self._endpoint.attempt(what, get)

    def _explain(self, what: str, call: Any) -> None:
        """Raises what the mined transaction failed with: the state changed between its estimate and its
        block."""
        if call is not None and hasattr(call, "address"):
            options = {"from": checksummed(self.address)}
            self._endpoint.attempt(what, lambda _: call.call(options))
        raise rejected(what, "")


def _current_fees(web3: Web3) -> dict[str, int]:
    """EIP-1559 fees that hold for several full blocks; a plain gas price where the chain has no base fee."""
    base = web3.eth.get_block("latest").get("baseFeePerGas")
    if base is None:
        return {"gasPrice": web3.eth.gas_price}
    tip = web3.eth.max_priority_fee
    return {"maxFeePerGas": 2 * int(base) + tip, "maxPriorityFeePerGas": tip, "type": 2}


def _fee_of(fields: dict[str, Any]) -> int:
    """The most that a transaction pays for a unit of gas, in wei."""
    return int(fields.get("maxFeePerGas") or fields.get("gasPrice") or 0)


def _bumped(wei: int) -> int:
    return wei * _BUMP[0] // _BUMP[1] + 1
