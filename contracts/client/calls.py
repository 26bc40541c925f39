"""The way from one account to the contracts of one deployment: read, send, what was emitted. Blocking and
thread-safe.

Before anything else the endpoint is asked, once, whether it is the deployment's chain."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from ...protocol.errors import ChainError
from ...protocol.ids import Address, checksummed, to_address
from ..calling.endpoint import PATIENCE_S, Endpoint
from ..calling.events import decode_log
from ..calling.records import ChainEvent
from ..calling.transactions import Sending, Sent, Transactor
from ..deploying.deployment import Deployment
from .connecting import require_deployment

if TYPE_CHECKING:
    from web3.providers import BaseProvider


class ContractCalls:
    """`secret` is the account's secp256k1 key, 32 bytes; without it there is only reading."""

    def __init__(
        self,
        provider: str | BaseProvider,
        deployment: Deployment,
        secret: bytes | None = None,
        patience_s: float = PATIENCE_S,
        sending: Sending | None = None,
    ) -> None:
        self.deployment = deployment
        self.endpoint = Endpoint(provider, patience_s)
        self._account = None if secret is None else Transactor(self.endpoint, secret, sending)
        self._checking = threading.Lock()
        self._checked = False

    def close(self) -> None:
        """Closes connections."""
        self.endpoint.close()

    @property
    def address(self) -> Address:
        """The account that sends. Raises ChainError for a client that only reads."""
        return self._sender().address

    def check(self) -> None:
        """Raises ChainError unless the endpoint is the deployment's chain and has its contracts.

        Asked once.
        """
        with self._checking:
            if self._checked:
                return
            require_deployment(self.endpoint, self.deployment)
            self._checked = True

    def function(self, contract: str, name: str, *arguments: Any) -> Any:
        """A contract's function with its arguments, to be read or sent."""
        self.check()
        return self.endpoint.function(contract, self.deployment.address_of(contract), name, *arguments)

    def events_of(self, sent: Sent, name: str) -> list[ChainEvent]:
        """The events of one kind that a transaction of this client emitted."""
        owners = {"Escrow": self.deployment.escrow, "Settlement": self.deployment.settlement}
        events = [
            decode_log(self.endpoint.contract(contract, address), log)
            for contract, address in owners.items()
            for log in sent.logs
            if to_address(log["address"]) == address
        ]
        return [event for event in events if event is not None and event.name == name]

    def send(self, what: str, function: Any) -> Sent:
        """Sends a function's transaction from this client's account."""
        return self._sender().send(what, function)

    def read(self, contract: str, name: str, *arguments: Any) -> Any:
        """What a contract's view returns now."""
        return self.endpoint.read(name, self.function(contract, name, *arguments))

    def approve(self, contract: Address, amount: int) -> None:
        """Lets a contract take `amount` of this account's tokens, unless it may already."""
        spender = checksummed(contract)
        if int(self.read("CommonloreToken", "allowance", checksummed(self.address), spender)) < amount:
            self._send("CommonloreToken", "approve", spender, amount)

    def _send(self, contract: str, name: str, *arguments: Any) -> Sent:
        return self.send(name, self.function(contract, name, *arguments))

    def _sender(self) -> Transactor:
        if self._account is None:
            raise ChainError("this chain client only reads: it was given no key")
        return self._account
