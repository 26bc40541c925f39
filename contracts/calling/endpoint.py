"""The seam to an EVM endpoint: web3.py and its transport are used here, and their exceptions end here.

What comes out is an answer, `Unreachable` (the endpoint stayed silent for as long as we have patience) or a
`ChainError`; a contract's own refusal is a `Rejected` with its decoded reason. Reads and the sending of
signed transactions are safe to repeat, so every call here is retried. web3 is imported on first use: it costs
1.5 s."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from ...protocol.errors import (
    ChainError,
    InsufficientEscrow,
    LocalProtocolError,
    MissingDependency,
    Unreachable,
)
from ...protocol.ids import Address, checksummed
from ..artefacts import RevertReason, artefact, decode_revert

if TYPE_CHECKING:
    from web3 import Web3
    from web3.contract import Contract
    from web3.contract.contract import ContractFunction
    from web3.providers import BaseProvider

PATIENCE_S = 15.0
_REQUEST_TIMEOUT_S = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0
_ESCROW_REASONS = ("InsufficientEscrow", "InsufficientBalance", "ERC20InsufficientBalance")
_FAUCET = "; on a development chain: commonlore faucet"
_GARBAGE = (AttributeError, KeyError, TypeError, ValueError)
"""What web3 stumbles over when an answer is JSON of another shape than JSON-RPC's."""
_T = TypeVar("_T")
_IMPORTING = threading.Lock()
"""web3 imports itself in circles: where two threads begin at once Python gives up, and a node ended of it."""


class Rejected(ChainError):
    """A contract refused; `reason` is its custom error, decoded."""

    code = "rejected"

    def __init__(self, what: str, reason: RevertReason) -> None:
        remedy = _remedy(reason)
        super().__init__(f"{what}: the contract refused with {reason}{'; ' + remedy if remedy else ''}")
        self.reason = reason


class EscrowTooSmall(Rejected, InsufficientEscrow):
    """The money asked for is not there; the reason says how much is."""

    code = "insufficient_escrow"


class NoGas(ChainError):
    """The account that sends cannot pay for its transaction."""

    code = "no_gas"


class GasTooDear(ChainError):
    """Gas costs more than this node is set to pay: nothing was sent."""

    code = "gas_too_dear"


class Endpoint:
    """One JSON-RPC endpoint, for any number of threads. `provider` is a URL or a web3 provider."""

    def __init__(self, provider: str | BaseProvider, patience_s: float = PATIENCE_S) -> None:
        self.name = provider if isinstance(provider, str) else "the chain"
        self.patience_s = patience_s
        self._provider = provider
        self._connecting = threading.Lock()
        self._web3: Web3 | None = None
        self._session: Any = None
        self._contracts: dict[tuple[str, Address], Contract] = {}

    def close(self) -> None:
        """Closes its connections. A later call opens new ones."""
        with self._connecting:
            if self._session is not None:
                self._session.close()
            self._web3 = self._session = None
            self._contracts = {}

    def contract(self, name: str, address: Address) -> Contract:
        """A deployed contract, by the name of its artefact."""
        key = (name, address)
        if key not in self._contracts:
            made: Contract = self.web3.eth.contract(address=_text(address), abi=artefact(name).abi)
            self._contracts[key] = made
        return self._contracts[key]

    def function(self, name: str, address: Address, function: str, *arguments: Any) -> ContractFunction:
        """A deployed contract's function with its arguments.

        Raises LocalProtocolError where they do not fit.
        """
        contract = self.contract(name, address)
        from web3.exceptions import MismatchedABI  # here, behind the connection: it imports web3 alone

        try:
            bound: ContractFunction = contract.get_function_by_name(function)(*arguments)
        except MismatchedABI as error:
            raise LocalProtocolError(
                f"{function}: these arguments do not fit the contract: {arguments!r:.200}"
            ) from error
        return bound

    def read(self, what: str, function: ContractFunction, sender: Address | None = None) -> Any:
        """What a view returns now. Raises Rejected, ChainError, Unreachable."""
        options: Any = {} if sender is None else {"from": checksummed(sender)}
        return self.attempt(what, lambda _: function.call(options))

    def attempt(self, what: str, action: Callable[[Web3], _T]) -> _T:
        """`action`'s result, repeated while the endpoint does not answer.

        `what` opens the message of an error.
        """
        deadline = time.monotonic() + self.patience_s
        pause = _FIRST_PAUSE_S
        while True:
            try:
                return self._mapped(what, action)
            except Unreachable:
                if time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    def _mapped(self, what: str, action: Callable[[Web3], _T]) -> _T:
        web3 = self.web3
        from requests.exceptions import JSONDecodeError, RequestException
        from web3.exceptions import (
            BadFunctionCallOutput,
            BadResponseFormat,
            ContractLogicError,
            Web3Exception,
            Web3RPCError,
        )

        try:
            return action(web3)
        except ContractLogicError as error:
            raise rejected(what, error.data) from error
        except BadFunctionCallOutput as error:
            raise ChainError(f"{what}: {self.name} has no such contract; is this its deployment?") from error
        except Web3RPCError as error:
            raise _refused(what, _rpc_message(error)) from error
        except (BadResponseFormat, JSONDecodeError, *_GARBAGE) as error:
            raise ChainError(f"{what}: {self.name} is no Ethereum JSON-RPC endpoint: {error}") from error
        except (RequestException, OSError) as error:
            raise Unreachable(
                f"{what}: chain endpoint {self.name} does not answer; is it running?"
            ) from error
        except Web3Exception as error:
            raise ChainError(f"{what}: {error}") from error

    @property
    def web3(self) -> Web3:
        """The connection. Raises MissingDependency."""
        with self._connecting:
            if self._web3 is None:
                self._web3 = self._connect()
            return self._web3

    def _connect(self) -> Web3:
        try:
            with _IMPORTING, _recursion_limit_kept():
                from web3 import HTTPProvider, Web3
        except ImportError as error:
            raise MissingDependency(
                "talking to a chain needs web3: pip install 'commonlore[settle]'"
            ) from error
        provider = self._provider
        if isinstance(provider, str):
            self._session = _http_session(provider)
            timeout = {"timeout": _REQUEST_TIMEOUT_S}
            provider = HTTPProvider(provider, timeout, self._session, exception_retry_configuration=None)
        # No middleware: transactions are complete before they get there, and answers need no dressing.
        return Web3(provider, middleware=[])


def rejected(what: str, data: Any) -> Rejected:
    """The error for a revert's return data (hexadecimal text; anything else reads as no reason)."""
    text = data if isinstance(data, str) else ""
    try:
        reason = decode_revert(bytes.fromhex(text.removeprefix("0x")))
    except ValueError:
        reason = RevertReason(text[:200], {})
    kind = EscrowTooSmall if reason.name in _ESCROW_REASONS else Rejected
    return kind(what, reason)


@contextmanager
def _recursion_limit_kept() -> Iterator[None]:
    """py_ecc, which web3 imports, raises the limit to 100,000: then JSON of a stranger that is nested as deep
    overruns the stack and kills the process, where it should be a RecursionError."""
    limit = sys.getrecursionlimit()
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def _http_session(url: str) -> Any:
    """One pool of connections for all threads. On loopback a proxy from the environment is not asked."""
    from requests import Session

    session = Session()
    session.trust_env = urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1")
    return session


def _rpc_message(error: Any) -> str:
    response = getattr(error, "rpc_response", None) or {}
    answer = response.get("error") or {}
    return str(answer.get("message") or error)[:300] if isinstance(answer, dict) else str(answer)[:300]


def _refused(what: str, message: str) -> ChainError:
    """What the endpoint, and no contract, has against a transaction."""
    if "insufficient funds" not in message.lower():
        return ChainError(f"{what}: {message}")
    return NoGas(f"{what}: {message}; send that account ETH for gas{_FAUCET}")


def _remedy(reason: RevertReason) -> str:
    """What the sender can do about a contract's refusal; empty where the reason says all there is."""
    given = reason.arguments
    match reason.name:
        case "ERC20InsufficientBalance":
            return f"the account has {given.get('balance', 0):,} token units: send it some{_FAUCET}"
        case "StillThawing":
            return "try again when the chain's time, in Unix seconds, is past that"
    return ""


def _text(address: Address) -> Any:
    return checksummed(address)
