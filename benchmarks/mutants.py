"""Plants bugs in the contracts, one at a time, and runs the suite over each: `python -m benchmarks.mutants`.

Every external function that changes something has at least one. A bug is a text replacement in one source;
the sources are compiled (unoptimised: it is faster, and means the same) and the contracts' tests on revm run
over what comes out, until one fails. Who survives is listed. The table goes to results/mutants.json."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from commonlore.contracts.artefacts import CONTRACTS, HERE
from commonlore.contracts.build import SETTINGS

LIST = Path(__file__).with_suffix(".toml")
RESULTS = Path(__file__).parent / "results" / "mutants.json"
NEAR = {
    "Escrow": "test_escrow_rules.py",
    "Settlement": "test_bonded_lanes.py",
    "Bonds": "test_bonded_lanes.py",
    "Demands": "test_demands.py",
    "Registry": "test_registering.py",
    "Beacon": "test_checking.py",
    "Arbiter": "test_checking.py",
    "WorkPool": "test_checking.py",
    "Indexes": "test_indexes.py",
}
"""Where a bug of a contract is expected to show: asked first, because most end there."""
SUITE = (
    "test_fraud_proofs.py",
    *sorted(set(NEAR.values())),
    "test_reentrance.py",
    "test_conservation.py",
    "test_challenged_lanes.py",
)
_RUN = """
import pathlib, sys, pytest
from commonlore.contracts import artefacts, revm
artefacts.HERE = pathlib.Path(sys.argv[1])
revm.CODE_LIMIT = 1 << 20
sys.exit(pytest.main([*sys.argv[2:], "-x", "-q", "--no-header", "-p", "no:cacheprovider"]))
"""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug. `old` stands once in the source: the contract's own, unless another is named."""

    contract: str
    function: str
    bug: str
    old: str
    new: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a planted bug: killed by the named test, or it survived."""

    contract: str
    function: str
    bug: str
    killed_by: str | None
    seconds: float


def main(arguments: list[str] | None = None) -> int:
    """Exit status 1 if a bug survives."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=__doc__)
    parser.add_argument("--only", default="", help="bugs whose contract.function contains this")
    parser.add_argument("--json", action="store_true", help="one JSON line last")
    options = parser.parse_args(arguments)
    chosen = [mutant for mutant in read_list() if options.only in f"{mutant.contract}.{mutant.function}"]
    verdicts = [judge(None), *(judge(mutant) for mutant in chosen)]
    sound, *found = verdicts
    if sound.killed_by is not None:
        print(f"the suite fails without a bug: {sound.killed_by}", file=sys.stderr)
        return 2
    summary = summarise(found)
    if not options.only:
        write_results(found)
    print(json.dumps(summary) if options.json else f"{summary['mutants_killed']} of {len(found)} killed")
    return 1 if summary["survivors"] else 0


def summarise(found: list[Verdict]) -> dict[str, Any]:
    """How many, and who survived."""
    survivors = [verdict for verdict in found if verdict.killed_by is None]
    return {
        "mutants_planted": len(found),
        "mutants_killed": len(found) - len(survivors),
        "survivors": [f"{verdict.contract}.{verdict.function}: {verdict.bug}" for verdict in survivors],
    }


def write_results(found: list[Verdict]) -> None:
    """The kill table."""
    table = summarise(found) | {"suite": SUITE, "mutants": [asdict(verdict) for verdict in found]}
    RESULTS.write_text(json.dumps(table, indent=1) + "\n")


def read_list() -> list[Mutant]:
    """Every bug, in the order of the file."""
    return [Mutant(**entry) for entry in tomllib.loads(LIST.read_text())["mutant"]]


def judge(mutant: Mutant | None) -> Verdict:
    """Plants one bug (none: the sound contracts) and runs the suite over it."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        _compile(Path(folder), mutant)
        first = NEAR.get(mutant.contract, SUITE[0]) if mutant else SUITE[0]
        killed_by = _first_failure(Path(folder), first)
    name = ("", "", "none") if mutant is None else (mutant.contract, mutant.function, mutant.bug)
    verdict = Verdict(*name, killed_by, round(time.monotonic() - began, 1))
    print(f"{verdict.contract}.{verdict.function}: {verdict.bug}: {killed_by or 'SURVIVED'}", flush=True)
    return verdict


def _compile(folder: Path, mutant: Mutant | None) -> None:
    """Artefacts of the changed sources, laid out as the committed ones."""
    sources = {path.relative_to(HERE).as_posix(): path.read_text() for path in (HERE / "src").glob("*.sol")}
    if mutant is not None:
        name = f"src/{mutant.source or mutant.contract}.sol"
        if sources[name].count(mutant.old) != 1:
            raise SystemExit(f"{name} has this {sources[name].count(mutant.old)} times: {mutant.old}")
        sources[name] = sources[name].replace(mutant.old, mutant.new)
    request = {
        "language": "Solidity",
        "sources": {name: {"content": text} for name, text in sources.items()},
        "settings": SETTINGS
        | {"optimizer": {"enabled": False}, "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object"]}}},
    }
    command = ["node", str(HERE / "solc.mjs")]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=True)
    output: dict[str, Any] = json.loads(done.stdout)
    if errors := [e["formattedMessage"] for e in output.get("errors", []) if e["severity"] == "error"]:
        raise SystemExit(f"a mutant does not compile: {errors[0]}")
    (folder / "artifacts").mkdir()
    shutil.copytree(HERE / "test", folder / "test")
    for contract in CONTRACTS:
        compiled = output["contracts"][f"src/{contract}.sol"][contract]
        artefact = {
            "abi": compiled["abi"],
            "bytecode": compiled["evm"]["bytecode"]["object"],
            "sources": {},
        }
        (folder / "artifacts" / f"{contract}.json").write_text(json.dumps(artefact))


def _first_failure(folder: Path, first: str) -> str | None:
    """The name of the first test that fails over these artefacts; None if all pass."""
    tests = Path(__file__).parent.parent / "tests" / "contracts"
    command = [
        sys.executable,
        "-c",
        _RUN,
        str(folder),
        *(str(tests / name) for name in sorted(SUITE, key=lambda name: name != first)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    if done.returncode == 0:
        return None
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return lines[0].split(" - ")[0].split("::", 1)[-1] if lines else done.stderr.strip()[-200:]


if __name__ == "__main__":
    sys.exit(main())
