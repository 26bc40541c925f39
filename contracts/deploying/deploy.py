"""Deploys a network's contracts, wired to each other for good, as `plan` says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...protocol.errors import ChainError
from ...protocol.ids import Address, checksummed
from ..artefacts import artefact
from ..calling.endpoint import Endpoint
from ..calling.transactions import Sent, Transactor
from .deployment import Deployment, Terms
from .plan import Plan, make_plan
from .terms import Accounts

if TYPE_CHECKING:
    from web3.contract.contract import ContractConstructor

__all__ = ["Accounts", "deploy"]


def deploy(
    endpoint: Endpoint, deployer: Transactor, accounts: Accounts, terms: Terms, token: Address | None = None
) -> Deployment:
    """Deploys every contract, and a token that `deployer` may mint if none is named.

    Nothing else may send from the deployer's account meanwhile. Raises ChainError, Unreachable.
    """
    genesis: Any = endpoint.attempt("deploy", lambda web3: web3.eth.get_block("latest"))
    token = token or _create(endpoint, deployer, "CommonloreToken")
    nonce = _nonce(endpoint, deployer.address)
    plan = make_plan(token, deployer.address, nonce, accounts, terms, genesis["timestamp"])
    for name, arguments in plan.arguments():
        if _create(endpoint, deployer, name, *arguments) != plan.at[name]:
            raise ChainError("deploy: another transaction of the deployer came in between; deploy again")
    chain_id = endpoint.attempt("deploy", lambda web3: web3.eth.chain_id)
    return _deployment(plan, chain_id, genesis["number"] + 1)


def _deployment(plan: Plan, chain_id: int, block: int) -> Deployment:
    terms, at = plan.terms, plan.at
    return Deployment(
        chain_id=chain_id,
        token=plan.token,
        registry=at["Registry"],
        escrow=at["Escrow"],
        settlement=at["Settlement"],
        bonds=at["Bonds"],
        receipt_proofs=at["ReceiptProofs"],
        line_proofs=at["LineProofs"],
        earnings_proofs=at["EarningsProofs"],
        credit_proofs=at["CreditProofs"],
        demands=at["Demands"],
        indexes=at["Indexes"],
        beacon=at["Beacon"],
        arbiter=at["Arbiter"],
        check_pool=at["WorkPool"],
        platform=plan.accounts.platform,
        work_pool=plan.work_pool,
        genesis=plan.genesis,
        epoch_length=terms.epoch_length,
        grace=terms.grace,
        window=terms.window,
        thaw=terms.thaw_period,
        answer=terms.answer_time,
        patience=terms.patience_time,
        residue=terms.residue,
        pot_per_bond=terms.pot_per_bond,
        minimum_bond=terms.minimum_bond,
        demand_stake=terms.demand_stake,
        round_length=terms.checks.round_length,
        block=block,
    )


def _create(endpoint: Endpoint, deployer: Transactor, name: str, *arguments: Any) -> Address:
    compiled = artefact(name)
    factory: Any = endpoint.web3.eth.contract(abi=compiled.abi, bytecode=compiled.bytecode)
    constructor: ContractConstructor = factory.constructor(*arguments)
    sent: Sent = deployer.send(f"deploy {name}", constructor)
    if sent.created is None:
        raise ChainError(f"deploy {name}: the chain made no contract")
    return sent.created


def _nonce(endpoint: Endpoint, account: Address) -> int:
    text: Any = checksummed(account)
    return endpoint.attempt("deploy", lambda web3: web3.eth.get_transaction_count(text, "pending"))
