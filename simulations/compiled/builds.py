"""The compiled builds that lie in the cache: which are in use, and which may go.

Rules of this file: whoever uses a build holds a lock on its folder for as long as the process lives, which
the system lets go however that ends; only a build that nobody holds is deleted, and it leaves its place
before it is, so that nobody finds half of it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MOST_KEPT = 3
"""So many builds stay, those that were used last."""
PARTIAL = ".partial-"
"""How the names of folders begin that are not builds yet, or not any more."""
ABANDONED_S = 3_600.0
"""A partial one of that age is nobody's: no build takes as long."""


def hold(build: Path) -> int | None:
    """Use a build until the process ends, or the descriptor that this returns is closed; None where it is
    not there (any more)."""
    try:
        descriptor = os.open(build, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    with suppress(OSError):  # where there are no locks, nobody deletes either
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    if not _is_still(descriptor, build):
        os.close(descriptor)
        return None
    with suppress(OSError):
        os.utime(build)  # used last, now
    return descriptor


def prune(builds: Path) -> None:
    """Delete what nobody uses of all but the builds that were used last, and what killed processes left."""
    with suppress(OSError):
        entries = [(entry.stat().st_mtime, entry) for entry in builds.iterdir() if entry.is_dir()]
        for used, entry in sorted(entries):
            if entry.name.startswith(PARTIAL) and time.time() - used > ABANDONED_S:
                shutil.rmtree(entry, ignore_errors=True)
        whole = sorted((each for each in entries if not each[1].name.startswith(PARTIAL)), reverse=True)
        for _, build in whole[MOST_KEPT:]:
            _delete(build)


def _delete(build: Path) -> None:
    with _alone(build) as is_alone:
        if is_alone:
            gone = build.with_name(f"{PARTIAL}{build.name}")
            build.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)


@contextmanager
def _alone(build: Path) -> Iterator[bool]:
    """Whether nobody uses a build, and nobody will while the block lasts."""
    descriptor = os.open(build, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield _is_still(descriptor, build)
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _is_still(descriptor: int, build: Path) -> bool:
    """Whether the folder that was opened is the one that stands there now."""
    try:
        return os.path.samestat(os.fstat(descriptor), build.stat())
    except OSError:
        return False
