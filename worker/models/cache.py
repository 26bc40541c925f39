"""Where imported bases live on this machine: `<cache>/bases/<base id>/`, and `<cache>/names/<name>` with an
id in it.

Rules of this file:
- A base directory appears whole or not at all: it is filled beside its place and renamed into it.
- One import at a time on a machine: a file lock, which the kernel frees when its holder dies; what a dead
  import left is removed by the next.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from ...protocol.errors import ConfigError, NotFound, RemoteProtocolError
from ...protocol.ids import Cid, to_cid

_PARTIAL = ".partial-"


def default_cache_dir() -> Path:
    """COMMONLORE_CACHE, or the user's cache directory."""
    return Path(os.environ.get("COMMONLORE_CACHE") or platformdirs.user_cache_dir("commonlore"))


def base_dir(cache_dir: Path, base: Cid) -> Path:
    """Where a base of this id is, or would be."""
    return cache_dir / "bases" / base


def list_bases(cache_dir: Path) -> list[Cid]:
    """The ids of the bases in the cache."""
    directory = cache_dir / "bases"
    found = (
        sorted(path.name for path in directory.iterdir() if not path.name.startswith("."))
        if directory.is_dir()
        else []
    )
    return [Cid(name) for name in found]


def find_base(cache_dir: Path, name_or_id: str) -> Path:
    """The directory of a base by its id or a name it was given. Raises NotFound."""
    names = cache_dir / "names" / _file_name(name_or_id)
    text = names.read_text().strip() if names.is_file() else name_or_id
    try:
        directory = base_dir(cache_dir, to_cid(text))
    except RemoteProtocolError:
        directory = None
    if directory is None or not directory.is_dir():
        is_id = directory is not None and text == name_or_id
        what = "FOLDER` with the weights that have this id" if is_id else f"{name_or_id}`"
        raise NotFound(f"no base {name_or_id!r} on this machine; run `commonlore base add {what}")
    return directory


def set_name(cache_dir: Path, name: str, base: Cid) -> None:
    """Let `name` mean `base` on this machine."""
    path = cache_dir / "names" / _file_name(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=_PARTIAL, delete=False) as file:
        file.write(base + "\n")
    os.replace(file.name, path)


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[:128] or "_"


@contextmanager
def importing(cache_dir: Path) -> Iterator[Path]:
    """Hold the machine's import lock; gives an empty working directory beside the bases.

    Blocks while another imports.

    Raises ConfigError when the cache cannot be written.
    """
    bases = cache_dir / "bases"
    try:
        bases.mkdir(parents=True, exist_ok=True)
        lock = (bases / ".lock").open("w")
    except OSError as wrong:
        raise ConfigError(
            f"cannot write the cache {cache_dir}: {wrong.strerror}; set COMMONLORE_CACHE"
        ) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left_over in bases.glob(_PARTIAL + "*"):
            shutil.rmtree(left_over, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=bases))
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def publish(directory: Path, cache_dir: Path, base: Cid) -> Path:
    """Move a filled directory to its place. An equal base that is already there stays."""
    place = base_dir(cache_dir, base)
    if not place.exists():
        os.chmod(directory, 0o755)
        sync_directory(directory)
        os.rename(directory, place)
    return place


def sync_directory(directory: Path) -> None:
    """Make the files of a directory last through a loss of power."""
    for path in (*directory.iterdir(), directory):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
