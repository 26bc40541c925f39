"""What is asked of an endpoint before anything else: is it the network's chain, and what time is it there?"""

from __future__ import annotations

from typing import Any

from ...protocol.errors import ChainError
from ...protocol.ids import checksummed
from ..calling.endpoint import Endpoint
from ..deploying.deployment import Deployment


def require_deployment(endpoint: Endpoint, deployment: Deployment) -> None:
    """Raises ChainError unless the endpoint is the deployment's chain and has its contracts."""
    found = endpoint.attempt("connect", lambda web3: web3.eth.chain_id)
    if found != deployment.chain_id:
        raise ChainError(f"{endpoint.name} is chain {found}, this network's is {deployment.chain_id}")
    text: Any = checksummed(deployment.settlement)
    if not endpoint.attempt("connect", lambda web3: web3.eth.get_code(text)):
        raise ChainError(f"{endpoint.name} has no settlement contract at {text}: wrong deployment")


def pending_time(endpoint: Endpoint) -> int:
    """What a transaction sent now would see as the time, in Unix seconds."""
    pending = endpoint.attempt("chain time", _pending_time)
    return pending or endpoint.attempt("chain time", _latest_time)


def _latest_time(web3: Any) -> int:
    return int(web3.eth.get_block("latest")["timestamp"])


def _pending_time(web3: Any) -> int | None:
    """The pending block's time; None where an endpoint has no pending block."""
    from web3.exceptions import BlockNotFound, Web3RPCError

    try:
        return int(web3.eth.get_block("pending")["timestamp"])
    except (BlockNotFound, Web3RPCError):
        return None
