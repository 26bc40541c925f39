"""Compiles the contracts with the npm compiler and writes their artefacts: `python -m
commonlore.contracts.build [--check]`.

Artefacts are committed, so that only whoever changes a contract needs Node. The settings leave out all
metadata: the same sources give the same bytes anywhere, and `--check` compares them byte for byte."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..protocol.errors import CommonloreError, ConfigError, MissingDependency
from .artefacts import CONTRACTS, HERE

SETTINGS: dict[str, Any] = {
    "optimizer": {"enabled": True, "runs": 200},
    "evmVersion": "cancun",
    "metadata": {"bytecodeHash": "none", "appendCBOR": False},
}
_OUTPUTS = ["abi", "metadata", "evm.bytecode.object", "evm.deployedBytecode.object", "evm.methodIdentifiers"]


@dataclass(frozen=True, slots=True)
class Target:
    """A contract to compile, and where its artefact goes."""

    source: Path
    artefact: Path


def targets() -> list[Target]:
    """The deployed contracts, then the tests' hostile ones, whose artefacts lie beside them."""
    deployed = [
        Target(HERE / "src" / f"{name}.sol", HERE / "artifacts" / f"{name}.json") for name in CONTRACTS
    ]
    return deployed + [
        Target(path, path.with_suffix(".json")) for path in sorted((HERE / "test").glob("*.sol"))
    ]


def compile_all() -> dict[Path, str]:
    """Text of every artefact by its path.

    Raises ConfigError with the compiler's message, MissingDependency without Node.
    """
    output = _run_compiler()
    return {target.artefact: _render(target, output) for target in targets()}


def stale_artefacts() -> list[str]:
    """Artefacts whose recorded source digests are not those of the files here. Needs no compiler."""
    return [
        target.artefact.name
        for target in targets()
        if not target.artefact.exists() or not _is_fresh(json.loads(target.artefact.read_text())["sources"])
    ]


def _is_fresh(sources: Mapping[str, str]) -> bool:
    return all(_digest(HERE / name) == digest for name, digest in sources.items())


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def _run_compiler() -> dict[str, Any]:
    node = shutil.which("node")
    if node is None or not (HERE / "node_modules" / "solc").is_dir():
        raise MissingDependency(
            "compiling contracts needs Node.js and `npm ci --ignore-scripts` run in contracts/"
        )
    files = sorted((HERE / "src").glob("*.sol")) + sorted((HERE / "test").glob("*.sol"))
    request = {
        "language": "Solidity",
        "sources": {path.relative_to(HERE).as_posix(): {"content": path.read_text()} for path in files},
        "settings": {**SETTINGS, "outputSelection": {"*": {"*": _OUTPUTS}}},
    }
    done = subprocess.run(
        [node, str(HERE / "solc.mjs")], input=json.dumps(request), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ConfigError(f"the contracts' compiler failed: {done.stderr.strip()[-500:]}")
    output: dict[str, Any] = json.loads(done.stdout)
    if complaints := [entry["formattedMessage"] for entry in output.get("errors", [])]:
        raise ConfigError("the contracts do not compile cleanly:\n" + "\n".join(complaints))
    return output


def _render(target: Target, output: dict[str, Any]) -> str:
    """Canonical artefact text. Warnings never get here, so what is written compiled without one."""
    name, file = target.source.stem, target.source.relative_to(HERE).as_posix()
    compiled = output["contracts"][file][name]
    own = [used for used in json.loads(compiled["metadata"])["sources"] if not used.startswith("@")]
    artefact = {
        "abi": compiled["abi"],
        "bytecode": "0x" + compiled["evm"]["bytecode"]["object"],
        "deployedBytecode": "0x" + compiled["evm"]["deployedBytecode"]["object"],
        "methodIdentifiers": compiled["evm"]["methodIdentifiers"],
        "compiler": output["compiler"],
        "settings": SETTINGS,
        "libraries": json.loads((HERE / "package.json").read_text())["dependencies"],
        "sources": {used: _digest(HERE / used) for used in sorted(own)},
    }
    return json.dumps(artefact, indent=1, sort_keys=True) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Writes the artefacts, or with --check says which are not what the sources compile to.

    Exit status 1 if any.
    """
    parser = argparse.ArgumentParser(prog="python -m commonlore.contracts.build", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; compare with the committed artefacts"
    )
    check = parser.parse_args(arguments).check
    try:
        rendered = compile_all()
    except CommonloreError as error:
        print(f"contracts: {error}", file=sys.stderr)
        return 1
    differing = [path for path, text in rendered.items() if not path.exists() or path.read_text() != text]
    for path in differing:
        if check:
            print(
                f"contracts: {path.name} is not what the sources compile to; run it without --check",
                file=sys.stderr,
            )
        else:
            path.write_text(rendered[path])
            print(f"wrote {path.relative_to(HERE)}")
    return 1 if check and differing else 0


if __name__ == "__main__":
    sys.exit(main())
