"""A devchain's memory: every transaction, empty block and time jump, one JSON line each, written before it is
answered.

Replaying them with the same genesis gives the same blocks; their hashes are checked, so that a chain which
would come back different says so instead. One process at a time holds the file. A line cut short by a crash
was never answered and is dropped."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ...protocol.errors import ChainError, ConfigError
from .evm import EmbeddedChain

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Memory:
    """What a state file held: None of a deployment means that it ends before one, and is worth nothing."""

    genesis_time: int
    deployment: dict[str, Any] | None
    entries: tuple[dict[str, Any], ...]


class FileJournal:
    """The state file of a running devchain. Raises ConfigError when it is in use or not one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file: IO[bytes] = path.open("a+b")
        except OSError as error:
            raise ConfigError(
                f"state file {path} cannot be opened: {error.strerror}; name another file"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise ConfigError(
                f"state file {path} is in use by another devchain; stop that one, or name another file"
            ) from error

    def recall(self) -> Memory | None:
        """What the file holds; None if there is nothing to resume. Another kind of file is left as it is."""
        self._file.seek(0)
        text = self._file.read()
        if not text:
            return None
        whole = text[: text.rfind(b"\n") + 1]
        header, *entries = self._decoded(whole)
        self._file.truncate(len(whole))
        deployment = next((entry["deployment"] for entry in entries if "deployment" in entry), None)
        return Memory(header["genesis_time"], deployment, tuple(entries))

    def begin(self, genesis_time: int) -> None:
        """Starts over."""
        self._file.truncate(0)
        self._write({"format": FORMAT, "genesis_time": genesis_time})

    def deployed(self, deployment: dict[str, Any]) -> None:
        """The contracts are there; from here on the file is worth resuming."""
        self._write({"deployment": deployment})

    def sent(self, raw: bytes, timestamp: int, block: bytes) -> None:
        self._write({"raw": raw.hex(), "time": timestamp, "block": block.hex()})

    def mined(self, timestamp: int, block: bytes) -> None:
        self._write({"time": timestamp, "block": block.hex()})

    def jumped(self, offset: int) -> None:
        self._write({"offset": offset})

    def close(self) -> None:
        """Gives the file back."""
        self._file.close()

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _decoded(self, text: bytes) -> list[dict[str, Any]]:
        """The entries, the header first. Raises ConfigError if this is no state file."""
        try:
            entries: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
            known = entries[0]["format"] == FORMAT and isinstance(entries[0]["genesis_time"], int)
        except (ValueError, TypeError, LookupError):
            known = False
        if not known or not all(isinstance(entry, dict) for entry in entries):
            raise ConfigError(f"{self._path} is not a devchain's state; name another file")
        return entries


def replay(chain: EmbeddedChain, memory: Memory) -> int:
    """Applies a memory to a chain at its genesis; the time offset it ends with.

    Raises ConfigError where it differs.
    """
    offset = 0
    for entry in memory.entries:
        if "offset" in entry:
            offset = entry["offset"]
        elif "time" in entry:
            _apply(chain, entry)
    return offset


def _apply(chain: EmbeddedChain, entry: dict[str, Any]) -> None:
    try:
        if "raw" in entry:
            chain.send(bytes.fromhex(entry["raw"]), entry["time"])
        else:
            chain.mine(entry["time"])
    except ChainError as error:
        raise ConfigError(
            f"the devchain's state does not replay: {error}; start with another state file"
        ) from error
    if chain.head.hash.hex() != entry["block"]:
        raise ConfigError(
            f"the devchain's state replays differently at block {chain.head.number} (another py-evm?); "
            "start with another state file"
        )
