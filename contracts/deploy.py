"""Deploys a network's contracts, wired to each other for good.

Escrow and Settlement name each other immutably, so one of them is told the other's address before it exists:
the address a contract gets follows from its deployer's account and nonce. Settlement's constructor refuses to
live anywhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..protocol.credits import SPLIT_BOUNDS
from ..protocol.errors import ChainError
from ..protocol.ids import Address, checksummed
from .artefacts import artefact
from .deployment import Deployment, Terms
from .endpoint import Endpoint
from .evm import contract_address
from .transactions import Sent, Transactor
from .tuples import split_tuple

if TYPE_CHECKING:
    from web3.contract.contract import ContractConstructor


@dataclass(frozen=True, slots=True)
class Accounts:
    """Who gets the platform's and the work pool's share."""

    platform: Address
    work_pool: Address


def deploy(
    endpoint: Endpoint, deployer: Transactor, accounts: Accounts, terms: Terms, token: Address | None = None
) -> Deployment:
    """Deploys Escrow, Registry and Settlement, and a token that `deployer` may mint if none is named.

    Nothing else may send from the deployer's account meanwhile. Raises ChainError, Unreachable.
    """
    genesis = _genesis(endpoint)
    first = genesis["number"] + 1
    token = token or _create(endpoint, deployer, "CommonloreToken")
    escrow_nonce = _nonce(endpoint, deployer.address)
    settlement = contract_address(deployer.address, escrow_nonce + 2)
    escrow = _create(
        endpoint, deployer, "Escrow", checksummed(token), checksummed(settlement), terms.thaw_period
    )
    registry = _create(
        endpoint,
        deployer,
        "Registry",
        checksummed(escrow),
        split_tuple(SPLIT_BOUNDS.lowest),
        split_tuple(SPLIT_BOUNDS.highest),
    )
    times = (genesis["timestamp"], terms.epoch_length, terms.grace, terms.window)
    shares = (checksummed(accounts.platform), checksummed(accounts.work_pool))
    created = _create(
        endpoint, deployer, "Settlement", checksummed(escrow), checksummed(registry), times, *shares
    )
    if created != settlement:
        raise ChainError("deploy: another transaction of the deployer came in between; deploy again")
    return Deployment(
        chain_id=endpoint.attempt("deploy", lambda web3: web3.eth.chain_id),
        token=token,
        registry=registry,
        escrow=escrow,
        settlement=settlement,
        platform=accounts.platform,
        work_pool=accounts.work_pool,
        genesis=genesis["timestamp"],
        epoch_length=terms.epoch_length,
        grace=terms.grace,
        window=terms.window,
        thaw=terms.thaw_period,
        block=first,
    )


def _create(endpoint: Endpoint, deployer: Transactor, name: str, *arguments: Any) -> Address:
    compiled = artefact(name)
    factory: Any = endpoint.web3.eth.contract(abi=compiled.abi, bytecode=compiled.bytecode)
    constructor: ContractConstructor = factory.constructor(*arguments)
    sent: Sent = deployer.send(f"deploy {name}", constructor)
    if sent.created is None:
        raise ChainError(f"deploy {name}: the chain made no contract")
    return sent.created


def _genesis(endpoint: Endpoint) -> Any:
    return endpoint.attempt("deploy", lambda web3: web3.eth.get_block("latest"))


def _nonce(endpoint: Endpoint, account: Address) -> int:
    text: Any = checksummed(account)
    return endpoint.attempt("deploy", lambda web3: web3.eth.get_transaction_count(text, "pending"))
