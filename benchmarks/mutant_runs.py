"""Compiling contracts with a bug in them, and running tests over what comes out.

One compiler stays warm for all bugs, and one process with everything imported forks for each run: both cost
more than what they do for a bug."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from commonlore.contracts.artefacts import CONTRACTS, HERE
from commonlore.contracts.build import SETTINGS

TESTS = Path(__file__).parent.parent / "tests" / "contracts" / "src"
_IMPORT = re.compile(r'from "(\.[./\w]+\.sol)"')
_UNLIMITED = 1 << 20
"""Unoptimised code is larger than the chain would take."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug. `old` stands once in the source: the contract's own, unless another is named."""

    contract: str
    function: str
    bug: str
    old: str
    new: str
    source: str = ""

    @property
    def name(self) -> str:
        """The bug, for people."""
        return f"{self.contract}.{self.function}: {self.bug}"

    @property
    def file(self) -> str:
        """The source that it is planted in."""
        return f"src/{self.source or self.contract}.sol"


def compile_each(mutants: Sequence[Mutant]) -> Iterator[tuple[Mutant, Mapping[str, Any]]]:
    """Each bug with the artefacts that it changes, by path below contracts/.

    Raises SystemExit where one cannot be planted or does not compile.
    """
    requests = [_request(mutant) for mutant in mutants]
    command = ["node", str(HERE / "solc.mjs")]
    with (
        tempfile.TemporaryFile("w+") as asked,
        subprocess.Popen(command, stdin=asked, stdout=subprocess.PIPE, text=True) as compiler,
    ):
        if compiler.stdout is None:
            raise SystemExit("the compiler was started without a pipe")
        json.dump(requests, asked)
        asked.seek(0)
        for mutant in mutants:
            line = compiler.stdout.readline()
            if not line:
                raise SystemExit("the compiler ended; was `npm ci --ignore-scripts` run in contracts/?")
            yield mutant, _artefacts(mutant, json.loads(line))


def _request(mutant: Mutant) -> dict[str, Any]:
    """The compiler's input: what the bug changes, with the sources that takes."""
    targets = _changed(mutant.file)
    files = sorted(set().union(*(needed_sources(target) for target in targets)))
    texts = {file: (HERE / file).read_text() for file in files}
    if texts[mutant.file].count(mutant.old) != 1:
        found = texts[mutant.file].count(mutant.old)
        raise SystemExit(f"{mutant.file} has this {found} times: {mutant.old}")
    texts[mutant.file] = texts[mutant.file].replace(mutant.old, mutant.new)
    outputs = {target: {Path(target).stem: ["abi", "evm.bytecode.object"]} for target in targets}
    return {
        "language": "Solidity",
        "sources": {file: {"content": text} for file, text in texts.items()},
        "settings": SETTINGS | {"optimizer": {"enabled": False}, "outputSelection": outputs},
    }


def _changed(file: str) -> list[str]:
    """The contracts whose code a source is part of: a deployed contract's own, or all that use a library."""
    if Path(file).stem in CONTRACTS:
        return [file]
    targets = [f"src/{name}.sol" for name in CONTRACTS]
    targets += [f"test/{path.name}" for path in (HERE / "test").glob("*.sol")]
    return [target for target in targets if file in needed_sources(target)]


@cache
def needed_sources(file: str) -> frozenset[str]:
    """A source and all that it imports of the project's, by path below contracts/."""
    found, waiting = set[str](), [file]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            folder = (HERE / name).parent
            imports = _IMPORT.findall((HERE / name).read_text())
            waiting += [str((folder / each).resolve().relative_to(HERE.resolve())) for each in imports]
    return frozenset(found)


def _artefacts(mutant: Mutant, output: Mapping[str, Any]) -> dict[str, Any]:
    if errors := [e["formattedMessage"] for e in output.get("errors", []) if e["severity"] == "error"]:
        raise SystemExit(f"{mutant.name}: it does not compile: {errors[0]}")
    made: dict[str, Any] = {}
    for file, contracts in output["contracts"].items():
        for name, compiled in contracts.items():
            place = f"artifacts/{name}.json" if file.startswith("src/") else f"test/{name}.json"
            code = compiled.get("evm", {}).get("bytecode", {}).get("object", "")
            if code:
                made[place] = {"abi": compiled["abi"], "bytecode": code, "sources": {}}
    return made


def warm_up() -> None:
    """Import what every run needs, once: runs are forks of this process."""
    import eth_abi.abi
    import hypothesis.stateful
    import pyrevm
    import pytest
    import web3

    from commonlore.contracts.client import chain
    from commonlore.contracts.staging import stage

    del eth_abi, hypothesis, pyrevm, pytest, web3, chain, stage


def first_failure(artefacts: Mapping[str, Any] | None, tests: Sequence[str]) -> str | None:
    """The first test (file::name) that fails over contracts with these artefacts changed; None if all pass.

    None for `artefacts` are the sound ones.
    """
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for part in ("artifacts", "test"):
            shutil.copytree(HERE / part, folder / part)
        for place, artefact in (artefacts or {}).items():
            (folder / place).write_text(json.dumps(artefact))
        child = os.fork()
        if child == 0:
            os._exit(_run(folder, tests))
        _, status = os.waitpid(child, 0)
        said = folder / "failed"
        if status and not said.exists():
            raise SystemExit(f"the tests ended with {os.waitstatus_to_exitcode(status)}, and none failed")
        return said.read_text() if status else None


class _Watch:
    """Writes down the first test that fails."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self._file.exists():
            self._file.write_text(report.nodeid.removeprefix("tests/contracts/src/"))

    def pytest_collectreport(self, report: Any) -> None:
        self.pytest_runtest_logreport(report)


def _run(folder: Path, tests: Sequence[str]) -> int:
    """The tests over a folder's artefacts, in this process, which ends after it; 0 if all pass."""
    import pytest

    from commonlore.contracts import artefacts
    from commonlore.contracts.staging import revm

    silent = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silent, stream)
    artefacts.HERE = folder
    artefacts.artefact.cache_clear()
    revm.CODE_LIMIT = _UNLIMITED
    options = ["-x", "-q", "-p", "no:cacheprovider", f"--rootdir={TESTS.parents[2]}"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # what is imported here already
    for some in (tests[:1], tests[1:2], tests[2:]):  # most end with the first: nothing else is collected
        paths = [str(TESTS / name) for name in some]
        status = int(pytest.main([*paths, *options], plugins=[_Watch(folder / "failed")])) if some else 0
        if status:
            return status
    return 0
