"""All contracts of a network on revm, in this process: thousands of calls a second, no blocks, no receipts.

For tests, gas figures and planted bugs; a node uses a real endpoint. Times and block numbers are what the
caller sets. Needs pyrevm, which nothing else here imports."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...protocol.errors import ChainError
from ...protocol.ids import Address, checksummed, keccak256, to_address
from ...protocol.signing.eip712 import Domain
from ..artefacts import Artefact, RevertReason, artefact, decode_revert
from ..deploying.plan import make_plan
from ..deploying.terms import Accounts, Terms

if TYPE_CHECKING:
    from pyrevm import JournalCheckpoint

DEPLOYER = Address(keccak256(b"revm deployer")[12:])
CODE_LIMIT = 24_576
"""EIP-170."""
_CHAIN_ID = 1
_OUTPUT = re.compile(r"(?:output: |Revert\()?0x([0-9a-f]+)")


class Reverted(ChainError):
    """A call that the contracts refused, and why."""

    code = "reverted"

    def __init__(self, reason: RevertReason) -> None:
        super().__init__(str(reason))
        self.reason = reason


class RevmNetwork:
    """Every contract, deployed by DEPLOYER over a token that it mints. `code` gives artefacts by name."""

    def __init__(
        self,
        terms: Terms,
        accounts: Accounts,
        now: int,
        code: Callable[[str], Artefact] = artefact,
        token: Artefact | None = None,
    ) -> None:
        from pyrevm import EVM, CfgEnv, Env

        self._evm = EVM(Env(cfg=CfgEnv(chain_id=_CHAIN_ID, limit_contract_code_size=CODE_LIMIT)))
        self._artefacts: dict[str, Artefact] = {}
        self._entries: dict[tuple[str, str], tuple[bytes, list[str], list[str]]] = {}
        self.now, self.block, self.sent = now, 1, 0
        self.set_time(now)
        self.at: dict[str, Address] = {}
        self.add("CommonloreToken", token or code("CommonloreToken"))
        self.plan = make_plan(self.at["CommonloreToken"], DEPLOYER, 1, accounts, terms, now)
        for name, arguments in self.plan.arguments():
            if self.add(name, code(name), *arguments) != self.plan.at[name]:
                raise ChainError(f"{name} did not come to stand where it was planned")

    @property
    def domain(self) -> Domain:
        """What is signed for this network."""
        return Domain(_CHAIN_ID, self.at["Escrow"])

    def address(self, name: str) -> str:
        """A contract's address as the ABI wants it."""
        return checksummed(self.at[name])

    def set_time(self, now: int) -> None:
        """Calls see this time from now on, and the block number."""
        from pyrevm import BlockEnv

        self.now = now
        self._evm.set_block_env(BlockEnv(timestamp=now, number=self.block, basefee=0))

    def wait(self, seconds: int) -> None:
        """Time passes, and a block."""
        self.block += 1
        self.set_time(self.now + seconds)

    def add(self, name: str, compiled: Artefact, *arguments: object) -> Address:
        """Deploys one more contract under a name; its address."""
        from eth_abi.abi import encode
        from eth_utils.abi import get_abi_input_types

        entries: list[Any] = [entry for entry in compiled.abi if entry["type"] == "constructor"]
        kinds = get_abi_input_types(entries[0]) if entries else []
        try:
            deployed = self._evm.deploy(checksummed(DEPLOYER), compiled.bytecode + encode(kinds, arguments))
        except RuntimeError as error:
            raise Reverted(_reason_of(error)) from None
        self._artefacts[name] = compiled
        self.at[name] = to_address(deployed)
        return self.at[name]

    def call(self, sender: Address, contract: str, name: str, *arguments: object) -> Any:
        """Calls and keeps what it did; the output, or the outputs as a tuple. Raises Reverted."""
        from eth_abi.abi import decode, encode

        selector, inputs, outputs = self._entry(contract, name)
        data = selector + encode(inputs, arguments)
        self.sent += 1
        try:
            output = self._evm.message_call(checksummed(sender), self.address(contract), calldata=data)
        except RuntimeError as error:
            raise Reverted(_reason_of(error)) from None
        values = decode(outputs, output)
        return values[0] if len(values) == 1 else values

    def read(self, contract: str, name: str, *arguments: object) -> Any:
        """A view's output."""
        self.sent -= 1
        return self.call(DEPLOYER, contract, name, *arguments)

    def refusal(self, sender: Address, contract: str, name: str, *arguments: object) -> str | None:
        """The name of the error that a call ends in; None if it is accepted."""
        try:
            self.call(sender, contract, name, *arguments)
        except Reverted as error:
            return error.reason.name
        return None

    @property
    def gas_used(self) -> int:
        """Of the last call, as a transaction pays for it (calldata and refunds counted)."""
        result = self._evm.result
        return 0 if result is None else result.gas_used

    def snapshot(self) -> tuple[JournalCheckpoint, int, int]:
        """A place to come back to, once."""
        return self._evm.snapshot(), self.now, self.block

    def revert(self, snapshot: tuple[JournalCheckpoint, int, int]) -> None:
        """Comes back to it."""
        checkpoint, now, self.block = snapshot
        self._evm.revert(checkpoint)
        self.set_time(now)

    def tokens(self, account: Address) -> int:
        """What an account holds."""
        return int(self.read("CommonloreToken", "balanceOf", checksummed(account)))

    def _entry(self, contract: str, name: str) -> tuple[bytes, list[str], list[str]]:
        """Selector, input and output types of a function."""
        from eth_utils.abi import function_abi_to_4byte_selector, get_abi_input_types, get_abi_output_types

        known = self._entries.get((contract, name))
        if known is None:
            functions: list[Any] = [e for e in self._artefacts[contract].abi if e["type"] == "function"]
            entry = next(e for e in functions if e["name"] == name)
            kinds = get_abi_input_types(entry), get_abi_output_types(entry)
            known = self._entries[contract, name] = (function_abi_to_4byte_selector(entry), *kinds)
        return known


def _reason_of(error: RuntimeError) -> RevertReason:
    found = _OUTPUT.search(str(error))
    return decode_revert(bytes.fromhex(found[1]) if found else b"")
