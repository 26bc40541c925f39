"""What is wrong with this machine, and how to mend it: one small check each, none of which changes anything.

A check never raises; what it finds is its result. Nothing heavy is imported: packages are looked up by their
metadata, and only the native ones that fail in practice are loaded.
"""

from __future__ import annotations

import importlib
import os
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Any

from ...protocol.errors import CommonloreError
from ..config import Config, load_config
from ..home import Home
from .extras import extras
from .one_machine import running_home, why_no_port

NEEDED_MEMORY = 2 * 1024**3
NEEDED_DISK = 2 * 1024**3
WHOLE = "demo"
"""The extra that is all the others together."""
PATIENCE_S = 10.0
"""For the running node's own account of itself."""
COMPILER = "for faster answers, run: sudo apt-get install -y g++"
SYSTEM_PACKAGES = "sudo apt-get install -y g++ libgmp-dev python3-dev"


class State(StrEnum):
    """ok: usable; missing: not here, and needed only for some jobs; wrong: mend it before starting a node."""

    OK = "ok"
    MISSING = "missing"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what was found, and what to do about it (empty when nothing is)."""

    subject: str
    state: State
    found: str
    remedy: str = ""


def examine(asked: Home) -> Iterator[Finding]:
    """Every check, in an order that a reader can follow from the machine to the network.

    Where `up` keeps a network in a home, its peer of yours is looked at, as all commands do.
    """
    yield from (check_python(), check_processors(), check_memory())
    yield from (check_libp2p(), *check_extras())
    home = running_home(asked)
    findings = list(check_home(home))
    yield from findings
    if findings[0].state is State.WRONG:
        return
    node = ask_node(home)
    yield Finding("node", State.OK, f"running in {home.path}" if node is not None else "not running")
    try:
        config = load_config(home.config)
    except CommonloreError as error:
        yield Finding(
            "configuration", State.WRONG, str(error), f"edit {home.config}, or the variable it names"
        )
        return
    yield Finding("configuration", State.OK, str(home.config) if home.config.exists() else "defaults")
    yield from (check_engine(config), check_base(config), check_port(config, node))
    yield check_chain(config) if node is None else chain_of_node(node)
    if node is not None and node.get("settlement"):
        yield settlement_of_node(node["settlement"])
    yield from check_bootstrap(config)


def check_python() -> Finding:
    """The interpreter's version; pip refuses one that is too old."""
    return Finding("python", State.OK, ".".join(map(str, sys.version_info[:3])))


def check_processors() -> Finding:
    """Cores this process may use."""
    return Finding("processors", State.OK, f"{len(os.sched_getaffinity(0))} cores")


def check_memory(path: Path = Path("/proc/meminfo")) -> Finding:
    """Memory that is free for a worker on the starter base."""
    fields = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    available = int(fields["MemAvailable"].split()[0]) * 1024
    found = f"{_gib(available)} available"
    if available < NEEDED_MEMORY:
        return Finding("memory", State.WRONG, found, f"close something: a worker needs {_gib(NEEDED_MEMORY)}")
    return Finding("memory", State.OK, found)


def check_libp2p() -> Finding:
    """The network library, and the version that it is repaired for."""
    try:
        importlib.import_module("fastecdsa.curve")
        from ..wire.compat import check_version

        check_version()
    except CommonloreError as error:
        return Finding("libp2p", State.WRONG, _version("libp2p") or "not installed", str(error))
    except ImportError as error:
        remedy = f"run: {SYSTEM_PACKAGES}; then: pip install --force-reinstall fastecdsa libp2p==0.8.1"
        return Finding("libp2p", State.WRONG, f"does not load: {error}", remedy)
    return Finding("libp2p", State.OK, str(_version("libp2p")))


def check_extras() -> list[Finding]:
    """The optional packages, by what they are for."""
    return [_check_extra(name, packages) for name, packages in extras().items() if name != WHOLE]


def check_home(home: Home) -> Iterator[Finding]:
    """Whether the home can be used, and how much room there is."""
    existing = next(path for path in (home.path, *home.path.parents) if os.path.lexists(path))
    remedy = f"make {existing} yours, or set COMMONLORE_HOME to a folder of yours"
    if not existing.is_dir():
        remedy = "name a folder: --home FOLDER, or COMMONLORE_HOME"
        yield Finding("home", State.WRONG, f"{existing} is not a folder", remedy)
    elif not os.access(existing, os.W_OK):
        yield Finding("home", State.WRONG, f"{home.path} cannot be written", remedy)
    elif home.is_foreign():
        remedy = "name a new folder: --home FOLDER, or COMMONLORE_HOME"
        yield Finding("home", State.WRONG, f"{home.path} holds other things", remedy)
    else:
        yield Finding("home", State.OK, f"{home.path}" + ("" if home.path.exists() else " (not made yet)"))
    free = shutil.disk_usage(existing).free
    short = free < NEEDED_DISK
    remedy = f"free some space: bases and adapters need {_gib(NEEDED_DISK)}" if short else ""
    yield Finding("disk", State.WRONG if short else State.OK, f"{_gib(free)} free", remedy)
    try:
        _ = home.control_socket
    except CommonloreError as error:
        yield Finding("control socket", State.WRONG, str(error), "set COMMONLORE_HOME to a shorter path")


def check_base(config: Config) -> Finding:
    """Whether the configured base model is on this machine."""
    from ...worker.models.cache import default_cache_dir, find_base

    cache = Path(config.cache_dir) if config.cache_dir else default_cache_dir()
    try:
        return Finding("base model", State.OK, f"{config.base} in {find_base(cache, config.base)}")
    except CommonloreError:
        remedy = f"for a worker, run: commonlore base add {config.base}"
        return Finding("base model", State.MISSING, f"{config.base} is not in {cache}", remedy)


def check_engine(config: Config) -> Finding:
    """Whether a worker computes with the compiled kernels, or with torch alone, which is slower."""
    from ...worker.engine.native.library import NoCompiler, Unavailable, find_compiler

    if config.precision == "fp32":
        return Finding(
            "engine", State.OK, "torch alone: the compiled kernels compute bf16 and int4, not fp32"
        )
    try:
        return Finding("engine", State.OK, f"compiled kernels for AVX-512 BF16, built with {find_compiler()}")
    except NoCompiler as reason:
        return Finding("engine", State.MISSING, f"torch alone, slower: {reason}", COMPILER)
    except Unavailable as reason:
        return Finding("engine", State.OK, f"torch alone: {reason}")


def ask_node(home: Home) -> Mapping[str, Any] | None:
    """The status of the node that runs in a home; None where none does, or none that answers."""
    from ..gateway.control_client import ControlClient, is_running

    try:
        if not is_running(home):
            return None
        with ControlClient(home, answer_s=PATIENCE_S) as client:
            status: Mapping[str, Any] = client.get("/status")
            return status
    except CommonloreError:
        return None


def check_port(config: Config, node: Mapping[str, Any] | None = None) -> Finding:
    """Whether the gateway's port is free, or taken by the node that runs here."""
    place = f"{config.gateway_host}:{config.gateway_port}"
    reason = why_no_port(config.gateway_host, config.gateway_port)
    if reason is None:
        return Finding("gateway port", State.OK, f"{place} is free")
    if node is not None and "gateway" in node["roles"]:
        return Finding("gateway port", State.OK, f"{place} is where the running node's gateway listens")
    remedy = "choose another: --gateway-port with `up`, --set gateway_port=PORT with `node`"
    return Finding("gateway port", State.MISSING, f"{place} cannot be used: {reason}", remedy)


def chain_of_node(node: Mapping[str, Any]) -> Finding:
    """The chain as the running node sees it."""
    url = node["chain"]
    if not url:
        return Finding("chain", State.MISSING, "the running node has none: its receipts are not settled")
    if node["purse"] is None:
        return Finding(
            "chain", State.WRONG, f"{url} does not answer the running node", "start the chain again"
        )
    return Finding("chain", State.OK, f"{url}, in epoch {node['epoch']}, as the running node sees it")


def settlement_of_node(settlement: Mapping[str, Any]) -> Finding:
    """Whether the running node's last round of settlement was whole, and what it waits for if not."""
    waiting = settlement["waiting_for"]
    if not waiting:
        return Finding("settlement", State.OK, "up to date")
    state = State.WRONG if settlement["failures"] else State.MISSING
    return Finding("settlement", state, waiting, "nothing is lost: it goes on by itself when that is mended")


def check_chain(config: Config) -> Finding:
    """Whether the configured chain answers and has the network's contracts."""
    if not config.chain_url:
        return Finding("chain", State.MISSING, "none configured: answers are receipted but not settled")
    try:
        return _ask_chain(config)
    except CommonloreError as error:
        return Finding(
            "chain", State.WRONG, str(error), "start the chain, or correct chain_url and deployment"
        )


def check_bootstrap(config: Config) -> list[Finding]:
    """Whether each bootstrap address answers a TCP connection."""
    return [_knock(address) for address in config.bootstrap]


def _check_extra(name: str, packages: tuple[str, ...]) -> Finding:
    absent = [package for package in packages if _version(package) is None]
    subject = f"extra {name}"
    if absent:
        remedy = f"only for this, run: pip install 'commonlore[{name}]'"
        return Finding(subject, State.MISSING, f"without {', '.join(absent)}", remedy)
    return Finding(subject, State.OK, ", ".join(f"{package} {_version(package)}" for package in packages))


def _ask_chain(config: Config) -> Finding:
    from ...contracts.client.chain import ChainClient
    from ..chain import load_deployment

    deployment = load_deployment(config.deployment)
    if deployment is None:
        remedy = "set deployment to the JSON that `commonlore up` printed"
        return Finding("chain", State.WRONG, "chain_url is set but deployment is not", remedy)
    client = ChainClient(config.chain_url, deployment, patience_s=3)
    try:
        epoch = deployment.epoch_at(client.chain_time())
    finally:
        client.close()
    return Finding("chain", State.OK, f"{config.chain_url} is chain {deployment.chain_id}, in epoch {epoch}")


def _knock(address: str) -> Finding:
    subject, remedy = "bootstrap", "ask for its present address, or check the firewall"
    parts = address.split("/")
    try:
        host, port = parts[2], int(parts[parts.index("tcp") + 1])
        socket.create_connection((host, port), timeout=3).close()
    except (ValueError, IndexError):
        remedy = "write it as /ip4/ADDRESS/tcp/PORT/p2p/PEER-ID"
        return Finding(subject, State.WRONG, f"not a TCP multiaddress: {address}", remedy)
    except OSError as error:
        return Finding(subject, State.WRONG, f"{address}: {error.strerror or error}", remedy)
    return Finding(subject, State.OK, f"{address} answers")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _gib(size: int) -> str:
    return f"{size / 1024**3:.1f} GiB"
