"""What is installed: the wheel holds what git holds of the rooms; a client peer needs no torch, no web3."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("protocol", "scheduler", "worker", "contracts", "peer", "simulations", "cli")
NOT_SHIPPED = (
    "contracts/test/*",
    "contracts/package*.json",
    "contracts/.npmrc",
    "contracts/solc.mjs",
    "contracts/slither.json",
    "contracts/fo*",
)
"""The contracts' tool chain: what compiles and tests them, not what runs."""
HEAVY = ("torch", "transformers", "peft", "web3", "eth_account", "matplotlib", "simple_icd_10_cm", "cwe2")
GIVEN = {"triton"}
"""Comes with torch's builds for CUDA, and is imported only on a GPU, where it is."""
NAME = re.compile(r"[A-Za-z0-9._-]+")


@pytest.fixture(scope="module")
def tracked() -> set[str]:
    """Paths of the files that git holds."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return {path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file()}


@pytest.fixture(scope="module")
def wheel(tracked: set[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel built from a copy of what git holds, as from a fresh clone."""
    clone = tmp_path_factory.mktemp("clone")
    for path in tracked:
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, clone / path)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        "dist",
        ".",
    ]
    done = subprocess.run(build, cwd=clone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (clone / "dist").iterdir()
    with zipfile.ZipFile(built) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    """The wheel's METADATA."""
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def requirements(metadata: Message) -> dict[str, set[str]]:
    """Names of the distributions that each extra asks for; those of every peer under the empty name."""
    wanted: dict[str, set[str]] = {}
    for requirement in metadata.get_all("Requires-Dist") or ():
        needed, _, marker = requirement.partition(";")
        extra = re.search(r"extra == ['\"](\w+)['\"]", marker)
        name = NAME.match(needed)
        assert name
        wanted.setdefault(extra[1] if extra else "", set()).add(normal(name[0]))
    return wanted


def normal(name: str) -> str:
    """A distribution's name in the one form that compares."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_wheel_holds_what_git_holds_of_the_rooms(tracked: set[str], wheel: zipfile.ZipFile) -> None:
    shipped = {
        path
        for path in tracked
        if path.split("/")[0] in ROOMS and not any(fnmatch(path, pattern) for pattern in NOT_SHIPPED)
    }
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == {f"commonlore/{path}" for path in {*shipped, "__init__.py", "py.typed"}}


def test_every_folder_with_modules_is_a_listed_package(tracked: set[str]) -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {Path(path).parent for path in tracked if path.split("/")[0] in ROOMS and path.endswith(".py")}
    assert sorted(listed) == sorted({"commonlore", *(".".join(["commonlore", *f.parts]) for f in folders)})
    assert all(f"{folder}/__init__.py" in tracked for folder in folders)


def test_a_client_peer_needs_no_torch_and_no_web3(metadata: Message) -> None:
    wanted = requirements(metadata)
    heavy = wanted["worker"] | wanted["settle"] | wanted["devchain"] | wanted["simulate"] | wanted["corpora"]
    assert {"torch", "transformers", "web3", "matplotlib"} <= heavy
    assert not wanted[""] & heavy


@pytest.mark.parametrize(
    "module", ["commonlore.peer.client", "commonlore.cli.main", "commonlore.peer.gateway.node"]
)
def test_a_client_peer_imports_nothing_heavy(module: str) -> None:
    program = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_the_rooms_import_is_asked_for(metadata: Message, tracked: set[str]) -> None:
    wanted = requirements(metadata)
    asked = set().union(*(names for extra, names in wanted.items() if extra != "dev"))
    reached = asked | {near for name in asked - {"commonlore"} for near in asked_by(name)}
    providers = packages_distributions()
    for path in sorted(tracked):
        if path.split("/")[0] not in ROOMS or not path.endswith(".py"):
            continue
        for module in imported(ROOT / path) - sys.stdlib_module_names - {"commonlore", "__future__"} - GIVEN:
            assert {normal(name) for name in providers[module]} & reached, f"{path} imports {module}"


def asked_by(name: str) -> set[str]:
    """What a distribution asks for itself, its extras included; nothing where it is not installed."""
    try:
        distribution(name)
    except PackageNotFoundError:
        return set()
    return {normal(found[0]) for text in distribution(name).requires or () if (found := NAME.match(text))}


def imported(path: Path) -> set[str]:
    """Top names of the modules that a file imports by their full names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").split(".")[0])
    return names


def test_constraints_hold_what_is_asked_for(metadata: Message) -> None:
    lines = (ROOT / "constraints.txt").read_text().split()
    pinned = {normal(line.split("==")[0]) for line in lines}
    asked = set().union(*requirements(metadata).values()) - {"commonlore"}
    assert asked - pinned == {"torch"}
    assert lines == sorted(lines, key=str.lower)
