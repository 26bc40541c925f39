"""`receipt verify`: gathers what a level reads from this machine, and carries out every level up to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from ...protocol.ids import Cid
from ...worker.models.cache import default_cache_dir, find_base
from ..closed_home import open_closed_home, receipts_of, sources_of
from ..config import Config
from ..home import Home
from .audit import Audit, Progress
from .evidence import Evidence, gather
from .findings import Finding
from .retraining_audit import verify_by_retraining
from .verifying import verify_integers, verify_query, verify_signatures


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """Which receipt, by whatever names it; how far; steps of each retraining (level 3)."""

    name: str
    level: int
    steps: int


def read_evidence(home: Home, config: Config, options: CheckOptions) -> tuple[Evidence, ...]:
    """What this machine knows of a receipt, of each of its adapters. Not for use within a running loop.

    Raises NotFound, ProtocolError, InvalidAdapter.
    """

    async def read() -> tuple[Evidence, ...]:
        async with open_closed_home(home, config) as closed:
            stored = await receipts_of(closed).find(options.name)
            return await gather(sources_of(closed), stored, options.level)

    return trio.run(read)


def check(
    home: Home, config: Config, parts: Sequence[Evidence], options: CheckOptions, progress: Progress
) -> Iterator[Finding]:
    """Every level up to the one wanted, one after the other, for each of the receipt's adapters; nothing
    behind one that has not passed.

    Raises what its levels raise.
    """

    def audit_of(one: Evidence) -> Audit:
        told = progress if one.part is None else _of_adapter(progress, one)
        return Audit(_base(config, one), home.jobs / "audit" / str(one.adapter), options.steps, told)

    levels: tuple[Callable[[Evidence], Finding], ...] = (
        verify_signatures,
        verify_integers,
        lambda one: verify_query(one, _base(config, one)),
        lambda one: verify_by_retraining(one, audit_of(one)),
    )
    for level in levels[: options.level + 1]:
        finding = merge_findings([(evidence.adapter, level(evidence)) for evidence in parts])
        yield finding
        if not finding.passed:
            return


def merge_findings(findings: Sequence[tuple[Cid | None, Finding]]) -> Finding:
    """One level's findings on several adapters as one: what holds of all is said once."""
    first = findings[0][1]
    if len(findings) == 1:
        return first
    shared = [said for said in first.showed if all(said in each.showed for _, each in findings)]
    own = [
        f"adapter {adapter}: {said}"
        for adapter, each in findings
        for said in each.showed
        if said not in shared
    ]
    not_shown = dict.fromkeys(said for _, each in findings for said in each.not_shown)
    passed = all(each.passed for _, each in findings)
    return Finding(first.level, passed, (*shared, *own), tuple(not_shown))


def _of_adapter(progress: Progress, evidence: Evidence) -> Progress:
    """Of several adapters' stages it is said whose they are."""
    return lambda what, done, total: progress(f"{evidence.adapter}: {what}", done, total)


def _base(config: Config, evidence: Evidence) -> Path:
    if evidence.manifest is None:
        return Path()  # no adapter was used: no level needs it
    folder = Path(config.cache_dir) if config.cache_dir else default_cache_dir()
    return find_base(folder, evidence.manifest.base)
