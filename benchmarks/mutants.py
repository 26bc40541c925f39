"""Plants bugs in the contracts, one at a time, and runs the suite over each: `python -m benchmarks.mutants`.

Every external function that changes something has at least one. A bug is a text replacement in one source;
what it changes is compiled (unoptimised: it is faster, and means the same), and the contracts' tests on revm
run over it, until one fails. Who survives is listed.

The table in results/mutants.json is written after each verdict, and a verdict stands while the bug, the
sources it is compiled from and the tests are what they were: a run that was stopped goes on, and after a
change only what it can touch is judged anew. `--again` judges everything."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from commonlore.contracts.artefacts import HERE

from .machine import describe_machine
from .mutant_runs import TESTS, Mutant, compile_each, first_failure, needed_sources, warm_up

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
    "Manifests": "test_manifests.py",
    "LineProofs": "test_mixed_receipts.py",
}
"""Where a bug of a contract is expected to show: asked first, after the test that killed it before."""
SUITE = (
    "test_fraud_proofs.py",
    *sorted(set(NEAR.values())),
    "test_succession.py",
    "test_reentrance.py",
    "test_conservation.py",
    "test_challenged_lanes.py",
)
BASIS = tuple(f"staging/{name}.py" for name in ("stage", "cast", "revm"))
"""What the suite plays on, beside its own files."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a planted bug: killed by the named test of the suite, or it survived. `basis` is the
    digest of what it was judged over, `date` when."""

    contract: str
    function: str
    bug: str
    killed_by: str | None
    seconds: float
    basis: str = ""
    date: str = ""

    @property
    def name(self) -> str:
        """The bug, for people."""
        return f"{self.contract}.{self.function}: {self.bug}"


def main(arguments: list[str] | None = None) -> int:
    """Exit status 1 if a bug survives, 2 if the suite fails without one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=__doc__)
    parser.add_argument("--only", default="", help="bugs whose contract.function contains this")
    parser.add_argument("--again", action="store_true", help="also what was judged before")
    parser.add_argument("--json", action="store_true", help="one JSON line last")
    options = parser.parse_args(arguments)
    table = _Table(read_list())
    chosen = [mutant for mutant in table.mutants if options.only in f"{mutant.contract}.{mutant.function}"]
    due = chosen if options.again else [mutant for mutant in chosen if not table.stands(mutant)]
    if due and not _judge_all(due, table):
        return 2
    summary = table.summary()
    killed = f"{summary['mutants_killed']} of {summary['mutants_planted']} killed"
    print(json.dumps(summary) if options.json else killed)
    return 1 if summary["survivors"] else 0


def _judge_all(due: list[Mutant], table: _Table) -> bool:
    """Judge each and write it down; whether the suite passes over the sound contracts, which comes first."""
    warm_up()
    failed = first_failure(None, SUITE)
    if failed is not None:
        print(f"the suite fails without a bug: {failed}", file=sys.stderr)
        return False
    for mutant, artefacts in compile_each(due):
        began = time.monotonic()
        killed_by = first_failure(artefacts, table.tests_for(mutant))
        table.take(mutant, killed_by, round(time.monotonic() - began, 1))
    return True


def read_list() -> list[Mutant]:
    """Every bug, in the order of the file."""
    return [Mutant(**entry) for entry in tomllib.loads(LIST.read_text())["mutant"]]


class _Table:
    """The verdicts so far, in the order of the list, and on disk after each."""

    def __init__(self, mutants: Iterable[Mutant]) -> None:
        self.mutants = list(mutants)
        known = json.loads(RESULTS.read_text())["mutants"] if RESULTS.exists() else []
        self._verdicts: dict[str, Verdict] = {v.name: v for v in (Verdict(**entry) for entry in known)}

    def stands(self, mutant: Mutant) -> bool:
        """Whether a bug was judged over just what is here now."""
        known = self._verdicts.get(mutant.name)
        return known is not None and known.basis == basis_of(mutant)

    def tests_for(self, mutant: Mutant) -> tuple[str, ...]:
        """The suite, with what is likely to fail in front."""
        known = self._verdicts.get(mutant.name)
        before = [known.killed_by] if known is not None and _exists(known.killed_by or "") else []
        near = NEAR.get(mutant.source or mutant.contract, NEAR.get(mutant.contract, SUITE[0]))
        return (*before, near, *(name for name in SUITE if name != near))

    def take(self, mutant: Mutant, killed_by: str | None, seconds: float) -> None:
        """A verdict: told, and written down with all others."""
        date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        parts = (mutant.contract, mutant.function, mutant.bug)
        self._verdicts[mutant.name] = Verdict(*parts, killed_by, seconds, basis_of(mutant), date)
        print(f"{mutant.name}: {killed_by or 'SURVIVED'}", flush=True)
        listed = [asdict(self._verdicts[each.name]) for each in self._judged()]
        taken = {"date": date, "machine": describe_machine(), "suite": SUITE}
        table = self.summary() | taken | {"mutants": listed}
        RESULTS.write_text(json.dumps(table, indent=1) + "\n")

    def summary(self) -> Mapping[str, Any]:
        """How many, who survived, and who was not judged yet, or not over what is here now."""
        found = [self._verdicts[mutant.name] for mutant in self._judged()]
        survivors = [verdict.name for verdict in found if verdict.killed_by is None]
        counts = {"mutants_planted": len(found), "mutants_killed": len(found) - len(survivors)}
        not_run = [mutant.name for mutant in self.mutants if mutant.name not in self._verdicts]
        old = [mutant.name for mutant in self._judged() if not self.stands(mutant)]
        return {**counts, "survivors": survivors, "not_run": not_run, "old": old}

    def _judged(self) -> list[Mutant]:
        return [mutant for mutant in self.mutants if mutant.name in self._verdicts]


def _exists(test: str) -> bool:
    """Whether there is a test of this name (file::name[case])."""
    file, _, name = test.partition("::")
    return (TESTS / file).is_file() and name.split("[")[0].split("::")[0] in (TESTS / file).read_text()


def basis_of(mutant: Mutant) -> str:
    """The digest of a bug, of the sources it is compiled from, and of the tests."""
    files = [HERE / name for name in sorted(needed_sources(mutant.file))]
    files += [HERE / name for name in BASIS] + [TESTS / name for name in SUITE]
    plain = json.dumps(asdict(replace(mutant))) + "".join(file.read_text() for file in files)
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
