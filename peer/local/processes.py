"""A peer as a process of its own: started, waited for until it is ready, ended, never outliving this program.

Rules of this file:

- The child is `python -m commonlore.peer.run --home HOME --with-parent` in a process group of its own, so
  Ctrl-C at a terminal reaches only this program, which then ends its peers in order. If this program is
  killed, the child's standard input closes and it ends by itself.
- Its first line on standard output says that it is ready, and where. What it writes to standard error goes
  into the home's logs; the last of it explains a failure.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ...protocol.errors import CommonloreError, DeadlineExceeded
from ...protocol.ids import Address, PeerId, to_address
from ..home import Home

START_S = 120.0
STOP_S = 20.0
_SHOWN_LINES = 3
_ERROR = "error: "


class PeerFailed(CommonloreError):
    """A peer's process ended before it was ready; the message says which, with its last words."""

    code = "peer_failed"


@dataclass(frozen=True, slots=True)
class Ready:
    """What a peer says of itself when it is ready. `gateway` is its URL, if it has one."""

    peer_id: PeerId
    addresses: tuple[str, ...]
    owner: Address
    session: Address
    roles: tuple[str, ...]
    gateway: str | None

    @property
    def address(self) -> str:
        """Where the other peers of this machine find it."""
        return self.addresses[0]


class PeerProcess:
    """A peer's process. `name` is for people; `environment` replaces this program's; `flags` are settings."""

    def __init__(
        self,
        name: str,
        home: Home,
        environment: Mapping[str, str] | None = None,
        flags: Mapping[str, str] | None = None,
    ) -> None:
        """Starts it; `wait_ready` says when it is a peer."""
        self.name = name
        self.home = home.create()
        self.stderr_file = home.logs / "stderr.txt"
        self._ready: Ready | None = None
        command = [sys.executable, "-m", "commonlore.peer.run", "--home", os.fspath(home.path)]
        command += [word for flag in (flags or {}).items() for word in flag]
        with self.stderr_file.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*command, "--with-parent"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=None if environment is None else dict(environment),
                process_group=0,
            )

    @property
    def ready(self) -> Ready:
        """What it said when it was ready. Waits for it, if it is not yet: see `wait_ready`."""
        return self._ready or self.wait_ready()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def wait_ready(self, patience_s: float = START_S) -> Ready:
        """Wait until it is a peer. Raises PeerFailed if it ends, DeadlineExceeded after `patience_s`."""
        if self._ready is None:
            line = _first_line(_pipe(self.process.stdout), patience_s)
            if line is None:
                raise DeadlineExceeded(
                    f"{self.name} was not ready within {patience_s:.0f} s; see {self.stderr_file}"
                )
            self._ready = self._parse(line)
        return self._ready

    def _parse(self, line: bytes) -> Ready:
        try:
            said: dict[str, Any] = json.loads(line)
            return Ready(
                PeerId(said["peer_id"]),
                tuple(said["addresses"]),
                to_address(said["owner"]),
                to_address(said["session"]),
                tuple(said["roles"]),
                said["gateway"],
            )
        except (ValueError, KeyError, TypeError):
            self.kill()
            raise PeerFailed(f"{self.name} did not start: {self.last_words()}") from None

    def last_words(self) -> str:
        """What it said went wrong, else the last lines of its standard error, or its exit status."""
        lines = [line.strip() for line in self.stderr_file.read_text(errors="replace").splitlines()]
        errors = [line.removeprefix(_ERROR) for line in lines if line.startswith(_ERROR)]
        said = errors[-1:] or [line for line in lines if line][-_SHOWN_LINES:]
        return " | ".join(said) or f"it ended with status {self.process.poll()}"

    def ask_to_stop(self) -> None:
        """Tell it to end; `stop` waits for that."""
        if self.alive:
            self.process.send_signal(signal.SIGTERM)

    def stop(self, patience_s: float = STOP_S) -> None:
        """End it in order; after `patience_s`, by force."""
        self.ask_to_stop()
        self.see_off(patience_s)

    def see_off(self, patience_s: float) -> None:
        """Wait until it has ended, as it was asked to; after `patience_s`, by force. To ask twice would cut
        its orderly end short."""
        try:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(patience_s)
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, to it and whatever it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        _pipe(self.process.stdin).close()
        _pipe(self.process.stdout).close()


def stop_all(peers: Iterable[PeerProcess]) -> None:
    """End peers together: all are told, then all are waited for."""
    listed = list(peers)
    for peer in listed:
        peer.ask_to_stop()
    deadline = time.monotonic() + STOP_S
    for peer in listed:
        peer.see_off(max(0.1, deadline - time.monotonic()))


def _first_line(stdout: IO[bytes], patience_s: float) -> bytes | None:
    """The first line, empty when the process ended without one; None after `patience_s`."""
    with selectors.DefaultSelector() as waiting:
        waiting.register(stdout, selectors.EVENT_READ)
        if not waiting.select(patience_s):
            return None
    return stdout.readline()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise PeerFailed("a peer was started without pipes")
    return pipe


def without_settings(environment: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """`environment` without the variables of these settings, so that a home's own file decides."""
    hidden = {f"COMMONLORE_{name.upper()}" for name in names}
    return {name: value for name, value in environment.items() if name not in hidden}


def write_settings(file: Path, settings: Mapping[str, object], remark: str) -> None:
    """Write a `config.toml` with these settings and a remark above them."""
    lines = [f"# {remark}", *(f"{name} = {_toml(value)}" for name, value in settings.items())]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml(value: object) -> str:
    """A text, whole number or list of texts; JSON's spelling of those is TOML's too."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
