"""The embedded chain with the contracts deployed, in this process or served on loopback.

`python -m commonlore.contracts.embedded.devchain --port 0 --json` prints one line {"url", "deployment"} when
it is ready and runs until SIGTERM, SIGINT, or (with --until-stdin-closes) the end of who started it.
Its money is play money: the faucet's key is known to everyone, which is why nothing but loopback is ever
listened on."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...protocol.errors import CommonloreError, ConfigError, MissingDependency
from ...protocol.ids import Address, checksummed, keccak256, to_address
from ...protocol.signing.keys import AccountKey
from ..calling.endpoint import Endpoint
from ..calling.transactions import Transactor
from ..deploying.deploy import Accounts, deploy
from ..deploying.deployment import Deployment, Terms
from .controls import ERROR
from .journal import FileJournal, replay
from .rpc import ChainRpc, RpcError
from .serving import listen, serving

if TYPE_CHECKING:
    from .provider import LocalProvider

FAUCET_SECRET = keccak256(b"commonlore devchain faucet")
PLATFORM_SECRET = keccak256(b"commonlore devchain platform")
WORK_POOL_SECRET = keccak256(b"commonlore devchain work pool")
"""Keys of accounts on devchains. They are public: never use them anywhere else."""

TERM_OPTIONS = (
    *("epoch-length", "window", "grace", "thaw", "answer", "patience"),
    *("minimum-bond", "pot-per-bond", "demand-stake"),
)
"""Terms that a devchain's command line takes: seconds, token units, or how many times a bond."""
FUND_TOKENS = 1_000 * 10**18
FUND_WEI = 100 * 10**18
_FAUCET_WEI = 10**30


def unix_time() -> int:
    """Whole seconds."""
    return int(time.time())


def devchain_accounts() -> Accounts:
    """The platform's and the work pool's account where none are named."""
    return Accounts(_address_of(PLATFORM_SECRET), _address_of(WORK_POOL_SECRET))


@dataclass(frozen=True, slots=True)
class DevchainConfig:
    """What a devchain is started with. `state` keeps its blocks across restarts."""

    terms: Terms = field(default_factory=Terms)
    accounts: Accounts = field(default_factory=devchain_accounts)
    clock: Callable[[], int] = unix_time
    state: Path | None = None


class Devchain:
    """A chain with the contracts deployed and a faucet. Thread-safe.

    Raises MissingDependency, ConfigError, ChainError.
    """

    def __init__(self, config: DevchainConfig | None = None) -> None:
        config = config or DevchainConfig()
        self._journal = None if config.state is None else FileJournal(config.state)
        try:
            self.rpc, deployment = self._start(config)
            self.endpoint = Endpoint(self.provider())
            self._faucet = Transactor(self.endpoint, FAUCET_SECRET)
            self.deployment = deployment or self._deploy(config)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Gives the state file back."""
        if self._journal is not None:
            self._journal.close()

    def _start(self, config: DevchainConfig) -> tuple[ChainRpc, Deployment | None]:
        """The chain at its genesis or where its state file left it; the deployment if it has one."""
        try:
            from .evm import EmbeddedChain

            alloc = {_address_of(FAUCET_SECRET): _FAUCET_WEI}
            memory = None if self._journal is None else self._journal.recall()
            if memory is None or memory.deployment is None:
                genesis = config.clock()
                if self._journal is not None:
                    self._journal.begin(genesis)
                return ChainRpc(EmbeddedChain(alloc, genesis), config.clock, self._journal), None
            chain = EmbeddedChain(alloc, memory.genesis_time)
        except ImportError as error:
            raise MissingDependency(
                "the devchain needs py-evm: pip install 'commonlore[devchain]'"
            ) from error
        offset = replay(chain, memory)
        return ChainRpc(chain, config.clock, self._journal, offset), Deployment.from_dict(memory.deployment)

    def _deploy(self, config: DevchainConfig) -> Deployment:
        deployment = deploy(self.endpoint, self._faucet, config.accounts, config.terms)
        if self._journal is not None:
            self._journal.deployed(deployment.to_dict())
        return deployment

    def provider(self) -> LocalProvider:
        """A web3 provider for clients in this process."""
        from .provider import LocalProvider

        return LocalProvider(self.respond)

    def respond(self, request: Any) -> Any:
        """The JSON-RPC response to a decoded request, or to a batch of them."""
        if isinstance(request, list):
            return [self.respond(one) for one in request]
        fields = request if isinstance(request, dict) else {}
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": fields.get("id")}
        try:
            return answer | {"result": self._result(fields.get("method"), fields.get("params") or [])}
        except RpcError as error:
            data = {} if error.data is None else {"data": error.data}
            return answer | {"error": {"code": error.number, "message": str(error), **data}}

    def _result(self, method: Any, params: Any) -> Any:
        if not isinstance(method, str) or not isinstance(params, list):
            raise RpcError(-32600, "not a JSON-RPC request")
        if method != "commonlore_fund":
            return self.rpc.handle(method, params)
        try:
            account = to_address(params[0])
            tokens, wei = (int(value, 16) for value in (*params[1:3], hex(FUND_TOKENS), hex(FUND_WEI))[:2])
            return self.fund(account, tokens, wei)
        except (CommonloreError, IndexError, TypeError, ValueError) as error:
            raise RpcError(-32000, f"fund: {error}") from error

    def fund(self, account: Address, tokens: int = FUND_TOKENS, wei: int = FUND_WEI) -> list[str]:
        """Gives an account ETH for transactions and tokens to spend; the transactions' hashes."""
        token: Any = self.endpoint.contract("CommonloreToken", self.deployment.token)
        sent = []
        if wei:
            sent.append(self._faucet.pay("fund", account, wei).text)
        if tokens:
            sent.append(self._faucet.send("fund", token.functions.mint(checksummed(account), tokens)).text)
        return sent


def _address_of(secret: bytes) -> Address:
    return AccountKey.from_secret(secret).address


def main(arguments: list[str] | None = None) -> int:
    """Runs a devchain until it is told to stop. Exit status 1 with one line on stderr if it cannot start."""
    options = _parse(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if options.until_stdin_closes:
        threading.Thread(target=_watch_stdin, args=(stop,), daemon=True).start()
    try:
        with listen(options.port) as server:
            devchain = Devchain(_config(options))
            _write_deployment(devchain.deployment, options.deployment_out)
            with serving(server, devchain.respond) as url:
                _announce(url, devchain.deployment, options.json)
                stop.wait()
            devchain.close()
    except CommonloreError as error:
        print(f"{ERROR}{error}", file=sys.stderr)
        return 1
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m commonlore.contracts.embedded.devchain")
    parser.add_argument("--port", type=int, default=8545, help="on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--json", action="store_true", help="print one JSON line when ready")
    parser.add_argument("--state", type=Path, help="keep the chain in this file across restarts")
    parser.add_argument("--deployment-out", type=Path, help="write the deployment into this file")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when standard input does")
    for name in TERM_OPTIONS:
        default = getattr(Terms(), name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=int, default=default, metavar="NUMBER")
    parser.add_argument("--platform", type=to_address, help="account of the platform's share")
    parser.add_argument("--work-pool", type=to_address, help="account of the work pool's share")
    return parser.parse_args(arguments)


def _config(options: argparse.Namespace) -> DevchainConfig:
    known = devchain_accounts()
    return DevchainConfig(
        terms=Terms(
            **{name.replace("-", "_"): getattr(options, name.replace("-", "_")) for name in TERM_OPTIONS}
        ),
        accounts=Accounts(options.platform or known.platform, options.work_pool or known.work_pool),
        state=options.state,
    )


def _write_deployment(deployment: Deployment, file: Path | None) -> None:
    if file is None:
        return
    try:
        deployment.save(file)
    except OSError as error:
        raise ConfigError(
            f"the deployment cannot be written to {file}: {error.strerror}; name another file"
        ) from error


def _announce(url: str, deployment: Deployment, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"url": url, "deployment": deployment.to_dict()}), flush=True)
    else:
        print(
            f"devchain {deployment.chain_id} at {url}; settlement {checksummed(deployment.settlement)}",
            flush=True,
        )


def _watch_stdin(stop: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 1024):  # unbuffered: at exit nobody waits for a lock on the buffer
        pass
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
