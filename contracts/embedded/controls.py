"""What only a devchain offers: its faucet, its clock, and a process to run it in."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import IO, Any

from ...protocol.errors import ChainError, DeadlineExceeded
from ...protocol.ids import Address, checksummed
from ..calling.endpoint import Endpoint
from ..deploying.deployment import Deployment

START_S = 60.0
ERROR = "error: "
"""What a devchain's process says before the reason why it cannot start."""


def fund(endpoint: Endpoint, account: Address, tokens: int | None = None, wei: int | None = None) -> None:
    """Gives an account ETH and tokens (token units, wei) from the faucet.

    Raises ChainError on any other chain.
    """
    amounts = [] if tokens is None else [hex(tokens)] if wei is None else [hex(tokens), hex(wei)]
    _ask(endpoint, "commonlore_fund", [checksummed(account), *amounts])


def advance(endpoint: Endpoint, seconds: int) -> None:
    """Moves a development chain's time forwards. Raises ChainError on any other chain."""
    _ask(endpoint, "evm_increaseTime", [hex(seconds)])
    _ask(endpoint, "evm_mine", [])


def _ask(endpoint: Endpoint, method: str, params: list[Any]) -> None:
    def request(web3: Any) -> Any:
        return web3.provider.make_request(method, params)

    answer = endpoint.attempt(method, request)
    if "error" in answer:
        raise ChainError(f"{method}: {answer['error'].get('message', 'refused')}")


class DevchainProcess:
    """A devchain in a process of its own; it ends with `close`, or with this program. A context manager."""

    def __init__(self, arguments: Sequence[str] = ()) -> None:
        """Starts one and waits until it is ready; `arguments` as on its command line.

        Raises ChainError with its last words if it ends, DeadlineExceeded.
        """
        command = [sys.executable, "-m", "commonlore.contracts.embedded.devchain", "--port", "0", "--json"]
        self.process = subprocess.Popen(
            [*command, "--until-stdin-closes", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            ready = json.loads(self._first_line())
        except BaseException:
            self.close()
            raise
        self.url: str = ready["url"]
        self.deployment = Deployment.from_dict(ready["deployment"])

    def _first_line(self) -> bytes:
        stdout, stderr = _pipe(self.process.stdout), _pipe(self.process.stderr)
        deadline = time.monotonic() + START_S
        with selectors.DefaultSelector() as ready:
            ready.register(stdout, selectors.EVENT_READ)
            if not ready.select(max(deadline - time.monotonic(), 0)):
                raise DeadlineExceeded(f"the devchain did not start within {START_S:.0f} s")
        line = stdout.readline()
        if not line:
            said = stderr.read().decode(errors="replace").strip()[-500:].removeprefix(ERROR)
            raise ChainError(f"the devchain did not start: {said or 'it said nothing'}")
        return line

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def close(self) -> None:
        """Ends the process and waits for it."""
        _pipe(self.process.stdin).close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        _pipe(self.process.stdout).close()
        _pipe(self.process.stderr).close()

    def __enter__(self) -> DevchainProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ChainError("the devchain was started without pipes")
    return pipe
