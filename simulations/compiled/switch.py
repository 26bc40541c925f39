"""The scheduler's core and the simulator's hot modules, compiled ahead of time by mypyc from the very sources
that run without it. `python -m commonlore.simulations.compiled` compiles them now.

Rules of this file:
- Nothing is compiled unless somebody asks: `simulate run --compiled`, or COMMONLORE_COMPILED=1, which
  processes started from there inherit.
- A build is a function of the sources, the interpreter and mypyc's version. It lies in the cache, and appears
  there whole or not at all, so that processes may build side by side. The last few stay (see `builds`).
- All or nothing: compiled classes know each other's fields, so either all of these modules are compiled ones
  or none is, and that is settled before the first of them is imported.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from ...protocol.errors import LocalProtocolError, MissingDependency
from ...worker.models.cache import default_cache_dir
from ..experiment.sources import PACKAGE, rooms_digest
from .builds import PARTIAL, hold, prune

SWITCH = "COMMONLORE_COMPILED"
"""Set to 1, the environment variable that makes simulations use compiled modules."""
LIBRARY = "commonlore_hot__mypyc"
"""The module that holds all the code; mypyc derives it from the group's name."""
GROUP = LIBRARY.removesuffix("__mypyc")
BUILD_PATIENCE_S = 1_200.0
MOST_TRIES = 3
INTERPRETED = ("__init__", "config", "records")
"""What of the scheduler stays as it is: processes send each other configurations, and `records` says one
thing to type checkers and does another."""
SIMULATIONS = {
    "modelled": ("asks", "kernel", "machines", "seats", "workers"),
    "network": ("accounts", "agents", "crowd", "decisions", "desk", "fleet"),
    "virtual": ("kernel",),
}
"""The hot modules of the simulator, by room."""


def hot_modules() -> tuple[str, ...]:
    """What is compiled, as `room.module`."""
    scheduler = sorted(path.stem for path in (PACKAGE / "scheduler").glob("*.py"))
    names = [f"scheduler.{name}" for name in scheduler if name not in INTERPRETED]
    return (*names, *(f"simulations.{room}.{name}" for room, hot in SIMULATIONS.items() for name in hot))


def switch_on() -> None:
    """From now on, here and in processes started from here, these modules are the compiled ones; they are
    compiled first where that was not done before.

    Raises MissingDependency where they cannot be compiled, LocalProtocolError where it is too late.
    """
    if is_compiled():
        return
    root = __package__.partition(".")[0]
    late = [name for name in hot_modules() if f"{root}.{name}" in sys.modules]
    if late:
        raise LocalProtocolError(
            f"{late[0]} was imported before its compiled form was asked for: import simulations first"
        )
    folder = _held()
    _load_library(folder)
    for room in ("scheduler", *(f"simulations.{room}" for room in SIMULATIONS)):
        import_module(f"{root}.{room}").__path__.insert(
            0, str(folder.joinpath("commonlore", *room.split(".")))
        )
    os.environ[SWITCH] = "1"


def is_compiled() -> bool:
    """Whether these modules are the compiled ones in this process."""
    return LIBRARY in sys.modules


@cache
def home() -> Path:
    """Where the compiled modules of these sources lie, or would. Raises MissingDependency without mypyc."""
    try:
        compiler = version("mypy")
    except PackageNotFoundError:
        raise MissingDependency(
            "compiled simulations need mypyc: pip install 'commonlore[compiled]'"
        ) from None
    made_of = (rooms_digest(), sys.version, str(sysconfig.get_config_var("SOABI")), compiler)
    key = hashlib.blake2b("\0".join(made_of).encode(), digest_size=16).hexdigest()
    return default_cache_dir() / "compiled" / key


def _held() -> Path:
    """The folder of the compiled modules, which nobody deletes while this process lives."""
    for _ in range(MOST_TRIES):
        folder = built()
        if hold(folder) is not None:
            return folder
    raise MissingDependency(f"{folder} is deleted again and again while it is used; try again")


def built() -> Path:
    """The folder of the compiled modules, made if need be, which takes half a minute or more. Raises
    MissingDependency."""
    target = home()
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=target.parent) as folder:
        _build(Path(folder))
        if rooms_digest.__wrapped__() != rooms_digest():
            raise MissingDependency("the sources were changed while they were compiled; try again")
        try:
            (Path(folder) / "made").rename(target)
        except OSError:
            if not target.is_dir():  # else another process was first
                raise
    prune(target.parent)
    return target


def _build(folder: Path) -> None:
    """Compile in a process of its own: setuptools changes the one it runs in."""
    (folder / "commonlore").symlink_to(PACKAGE, target_is_directory=True)
    files = [f"commonlore/{name.replace('.', '/')}.py" for name in hot_modules()]
    command = [sys.executable, "-m", "commonlore.simulations.compiled.compiling", GROUP, *files]
    environment = {**os.environ, SWITCH: "0"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=BUILD_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as wrong:
        raise MissingDependency(f"the simulator cannot be compiled: {wrong}") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-600:]
        raise MissingDependency(
            f"the simulator cannot be compiled (it needs a C compiler and Python's headers): {said}"
        )


def _load_library(folder: Path) -> None:
    """The modules' own files only look into it. A missing one would be interpreted beside them."""
    suffix = str(sysconfig.get_config_var("EXT_SUFFIX"))
    names = (LIBRARY, *(f"commonlore/{name.replace('.', '/')}" for name in hot_modules()))
    is_whole = all((folder / f"{name}{suffix}").is_file() for name in names)
    spec = spec_from_file_location(LIBRARY, folder / f"{LIBRARY}{suffix}")
    if not is_whole or spec is None or spec.loader is None:
        raise MissingDependency(f"the compiled modules in {folder} are not whole: remove that folder")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[LIBRARY] = module
