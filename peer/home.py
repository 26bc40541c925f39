"""Where a peer keeps what is its own: one private folder, and one running node at a time in it.

The folder is `--home`, else COMMONLORE_HOME, else the user's data folder. It and its subfolders have mode
0700; a folder that already holds other things is refused, not changed.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from ..protocol.errors import ConfigError

PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600
MAX_SOCKET_PATH = 107
"""Bytes of a Unix socket's path on Linux (sun_path without its NUL)."""


@dataclass(frozen=True, slots=True)
class Home:
    """Paths under one peer's folder. Nothing is created before `create`."""

    path: Path

    @classmethod
    def locate(cls, path: str | Path | None = None, environment: Mapping[str, str] = os.environ) -> Home:
        """The home of this invocation: `path`, else COMMONLORE_HOME, else the user's data folder."""
        chosen = path or environment.get("COMMONLORE_HOME") or platformdirs.user_data_dir("commonlore")
        return cls(Path(chosen).expanduser().absolute())

    @property
    def keys(self) -> Path:
        """Encrypted identities and their passphrase file."""
        return self.path / "keys"

    @property
    def store(self) -> Path:
        """The node's SQLite file."""
        return self.path / "store.sqlite3"

    @property
    def blobs(self) -> Path:
        """Content by its id."""
        return self.path / "blobs"

    @property
    def jobs(self) -> Path:
        """Training and indexing runs, a folder each."""
        return self.path / "jobs"

    @property
    def retrieval(self) -> Path:
        """Indexes of Datanets' rows, a file each."""
        return self.path / "retrieval"

    @property
    def logs(self) -> Path:
        """Structured logs."""
        return self.path / "logs"

    @property
    def config(self) -> Path:
        """The configuration file; it need not exist."""
        return self.path / "config.toml"

    @property
    def control_socket(self) -> Path:
        """Where the running node listens to local commands. Raises ConfigError on too long a path."""
        path = self.path / "control.sock"
        if len(os.fsencode(path)) > MAX_SOCKET_PATH:
            raise ConfigError(
                f"{path} is too long for a socket (107 bytes); set COMMONLORE_HOME to a shorter path"
            )
        return path

    def create(self) -> Home:
        """Make the folders, private. Raises ConfigError when that is not possible."""
        if self.is_foreign():
            raise ConfigError(f"{self.path} holds other things; set COMMONLORE_HOME to a new folder")
        for folder in (self.path, self.keys, self.blobs, self.jobs, self.logs):
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
                folder.chmod(PRIVATE_FOLDER)
            except OSError as error:
                raise ConfigError(
                    f"cannot use {folder} as home: {error.strerror}; set COMMONLORE_HOME to a folder of yours"
                ) from error
        return self

    def is_foreign(self) -> bool:
        """Whether it is a folder that holds other things than a peer's."""
        if not self.path.is_dir() or self.keys.is_dir():
            return False
        return any(found != self.config for found in self.path.iterdir())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the home for one node. Raises ConfigError, naming the holder's process, when it is taken.

        The kernel drops the lock with the process, so a killed node leaves nothing to clean up.
        """
        self.create()
        descriptor = os.open(self.path / "node.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            _take(descriptor, self.path)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        raise ConfigError(
            f"another node (process {holder}) uses {path}; stop it, or give this one its own COMMONLORE_HOME"
        ) from None
