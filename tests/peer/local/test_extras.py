"""What each extra brings, held to pyproject.toml and to what the rooms import."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest

from commonlore.cli.ending import described
from commonlore.peer.local import extras as module
from commonlore.peer.local.extras import extra_of, extras, modules_of, require
from commonlore.protocol.errors import MissingDependency

ROOT = Path(__file__).parent.parent.parent.parent
ROOMS = ("protocol", "scheduler", "worker", "contracts", "peer", "simulations", "cli")
NAME = re.compile(r"[A-Za-z0-9._-]+")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


NESTED = {"exl2": ("worker",), "sim": ("simulate",), "compiled": ("simulate",), "revm": ("settle",)}
"""The extras that an extra brings."""


def asked_of(lines: list[str]) -> set[str]:
    return {normal(NAME.match(line)[0]) for line in lines} - {"commonlore"}


def core() -> set[str]:
    """Distributions that every installation has, whatever was chosen."""
    found: set[str] = set()
    waiting = asked_of(project()["dependencies"])
    while waiting:
        name = waiting.pop()
        found.add(name)
        lines = [line for line in distribution(name).requires or () if "extra ==" not in line]
        waiting |= {near for near in asked_of(lines) - found if is_installed(near)}
    return found


def is_installed(name: str) -> bool:
    return name in installed()


@cache
def installed() -> frozenset[str]:
    return frozenset(normal(each) for names in packages_distributions().values() for each in names)


def imported() -> set[str]:
    """Top names of everything that the rooms import from elsewhere, wherever in a file."""
    names: set[str] = set()
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names.add((node.module or "").partition(".")[0])
    return names - sys.stdlib_module_names - {"__future__"}


def test_the_extras_are_those_of_the_project() -> None:
    written = project()["optional-dependencies"]
    for extra in written.keys() - {"dev", "demo", "devchain"}:
        brought = [line for part in (extra, *NESTED.get(extra, ())) for line in written[part]]
        assert {normal(name) for name in extras()[extra]} == asked_of(brought)
    assert {normal(name) for name in extras()["devchain"]} == {"py-evm", "web3"}
    assert "dev" not in extras()


def test_every_module_that_not_everybody_has_names_its_extra() -> None:
    everybody = core()
    providers = packages_distributions()
    optional = {
        name for name in imported() if not {normal(each) for each in providers.get(name, ())} & everybody
    }
    assert {"torch", "jinja2", "tokenizers", "web3", "eth", "matplotlib"} <= optional
    brought_by_torch = {"triton"}  # where torch is a CUDA build
    assert {name for name in optional if extra_of(name) is None} == brought_by_torch - everybody


@pytest.mark.parametrize("extra", ["worker", "settle", "devchain", "simulate", "corpora"])
def test_every_module_of_an_extra_ends_in_the_line_that_installs_it(extra: str) -> None:
    assert modules_of(extra)
    for name in modules_of(extra):
        status, line = described(ModuleNotFoundError(f"No module named '{name}.x'", name=f"{name}.x"))
        assert status == 1
        bringing = "settle" if name in modules_of("settle") else extra
        assert line == f"this needs {name}, which is not installed: pip install 'commonlore[{bringing}]'"


def test_a_module_that_no_extra_brings_is_a_defect() -> None:
    assert described(ModuleNotFoundError("No module named 'nonsense'", name="nonsense")) == (1, None)


def test_what_is_required_is_looked_for_before_work_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    require("worker", "devchain")
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "eth" else object())
    require("worker")
    with pytest.raises(
        MissingDependency, match=r"needs eth, .*: pip install 'commonlore\[worker,devchain\]'"
    ):
        require("worker", "devchain")
