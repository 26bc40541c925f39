"""The contracts on the embedded chain, every call a signed transaction of its own: what it costs is what a
block would charge.

It has the calls of `contracts.revm.RevmNetwork`, whose gas is lower: there, what one call has touched is warm
in the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from eth_abi.abi import decode, encode
from eth_account import Account
from eth_utils.abi import function_abi_to_4byte_selector, get_abi_input_types, get_abi_output_types

from commonlore.contracts.artefacts import artefact, decode_revert
from commonlore.contracts.deploying.plan import make_plan
from commonlore.contracts.deploying.terms import Accounts, Terms
from commonlore.contracts.embedded.evm import EmbeddedChain, Reverted
from commonlore.contracts.embedded.facts import CallRequest
from commonlore.protocol.ids import Address, checksummed, keccak256
from commonlore.protocol.signing.eip712 import Domain
from commonlore.protocol.signing.keys import AccountKey

DEPLOYER = AccountKey.from_secret(keccak256(b"benchmark deployer"))
GAS_LIMIT, FEE_WEI = 16_000_000, 10**11
WEI = 10**24


class ChainNetwork:
    """All contracts, deployed by DEPLOYER. Senders are those whose `keys` are given."""

    def __init__(self, terms: Terms, accounts: Accounts, now: int, keys: Iterable[AccountKey]) -> None:
        self._keys = {key.address: key for key in (DEPLOYER, *keys)}
        self.chain = EmbeddedChain(dict.fromkeys(self._keys, WEI), now)
        self.now = now
        self.gas: dict[str, list[int]] = {}
        """By contract and function, what each call of it cost."""
        self._entries: dict[tuple[str, str], Any] = {}
        self.at = {"CommonloreToken": self._deploy("CommonloreToken", ())}
        self.plan = make_plan(self.at["CommonloreToken"], DEPLOYER.address, 1, accounts, terms, now)
        for name, arguments in self.plan.arguments():
            self.at[name] = self._deploy(name, arguments)
            assert self.at[name] == self.plan.at[name]

    @property
    def domain(self) -> Domain:
        """What is signed for this network."""
        return Domain(self.chain.chain_id, self.at["Escrow"])

    def address(self, name: str) -> str:
        """A contract's address as the ABI wants it."""
        return checksummed(self.at[name])

    def wait(self, seconds: int) -> None:
        """Time passes."""
        self.now += seconds

    def call(self, sender: Address, contract: str, name: str, *arguments: object) -> int:
        """Sends a transaction; what it cost. Raises ChainError with the contract's reason."""
        _, data, outputs = self._encoded(contract, name, arguments)
        del outputs
        used = self._send(self._keys[sender], self.at[contract], data)
        self.gas.setdefault(f"{contract}.{name}", []).append(used)
        return used

    def read(self, contract: str, name: str, *arguments: object) -> Any:
        """A view's output."""
        _, data, outputs = self._encoded(contract, name, arguments)
        output, _ = self.chain.call(CallRequest(DEPLOYER.address, self.at[contract], data), self.now)
        values = decode(outputs, output)
        return values[0] if len(values) == 1 else values

    def tokens(self, account: Address) -> int:
        """What an account holds."""
        return int(self.read("CommonloreToken", "balanceOf", checksummed(account)))

    def _encoded(self, contract: str, name: str, arguments: tuple[object, ...]) -> tuple[Any, bytes, Any]:
        known = self._entries.get((contract, name))
        if known is None:
            functions = [entry for entry in artefact(contract).abi if entry["type"] == "function"]
            entry: Any = next(entry for entry in functions if entry["name"] == name)
            kinds = (get_abi_input_types(entry), get_abi_output_types(entry))
            known = self._entries[contract, name] = (function_abi_to_4byte_selector(entry), *kinds)
        selector, inputs, outputs = known
        return known, selector + encode(inputs, arguments), outputs

    def _deploy(self, name: str, arguments: tuple[Any, ...]) -> Address:
        entries: list[Any] = [entry for entry in artefact(name).abi if entry["type"] == "constructor"]
        data = encode(get_abi_input_types(entries[0]), arguments) if entries else b""
        used = self._send(DEPLOYER, None, artefact(name).bytecode + data)
        self.gas[f"{name} (deployed)"] = [used]
        created = self._mined.created
        assert created is not None
        return created

    def _send(self, key: AccountKey, to: Address | None, data: bytes) -> int:
        fields: dict[str, Any] = {
            "chainId": self.chain.chain_id,
            "nonce": self.chain.nonce(key.address),
            "gas": GAS_LIMIT,
            "maxFeePerGas": FEE_WEI,
            "maxPriorityFeePerGas": 0,
            "value": 0,
            "data": data,
            "type": 2,
        }
        if to is not None:
            fields["to"] = checksummed(to)
        raw = bytes(Account.sign_transaction(fields, key.secret).raw_transaction)
        mined = self.chain.transaction(self.chain.send(raw, self.now))
        assert mined is not None
        if not mined.succeeded:
            self._explain(key.address, to, data)
        self._mined = mined
        return mined.gas_used

    def _explain(self, sender: Address, to: Address | None, data: bytes) -> None:
        try:
            self.chain.call(CallRequest(sender, to, data), self.now)
        except Reverted as error:
            raise AssertionError(f"reverted: {decode_revert(error.data)}") from None
        raise AssertionError("a transaction failed")
