"""`receipt verify`: gathers what a level reads from this machine, and carries out every level up to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from ...protocol.errors import CommonloreError, NotFound, Unreachable
from ...protocol.ids import Cid
from ...worker.models.cache import default_cache_dir, find_base
from ..closed_home import open_closed_home, receipts_of, sources_of
from ..config import Config
from ..home import Home
from .audit import Audit, Progress
from .evidence import Evidence, gather
from .findings import REFUSED, Finding
from .retraining_audit import verify_by_retraining
from .verifying import verify_integers, verify_query, verify_signatures


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """Which receipt, by whatever names it; how far; steps of each retraining (level 3)."""

    name: str
    level: int
    steps: int


@dataclass(frozen=True, slots=True)
class Gathered:
    """Evidence of each of a receipt's adapters, up to `level`; where more was wanted, `lacking` is why the
    next level's could not be had."""

    parts: tuple[Evidence, ...]
    level: int
    lacking: CommonloreError | None = None


def read_as_far(home: Home, config: Config, options: CheckOptions) -> Gathered:
    """What this machine knows of a receipt, up to the level wanted or the highest that can be had. Not for
    use within a running loop.

    Raises NotFound for a receipt that is not here, and what its signatures cannot be read for.
    """
    lacking: CommonloreError | None = None
    for level in range(options.level, 0, -1):
        try:
            return Gathered(_read(home, config, (options.name, level)), level, lacking)
        except (NotFound, Unreachable, *REFUSED) as error:
            lacking = error
    return Gathered(_read(home, config, (options.name, 0)), 0, lacking)


def _read(home: Home, config: Config, wanted: tuple[str, int]) -> tuple[Evidence, ...]:
    """Raises NotFound, Unreachable, and REFUSED."""
    name, level = wanted

    async def read() -> tuple[Evidence, ...]:
        async with open_closed_home(home, config) as closed:
            stored = await receipts_of(closed).find(name)
            return await gather(sources_of(closed), stored, level)

    return trio.run(read)


def check(
    home: Home, config: Config, gathered: Gathered, options: CheckOptions, progress: Progress
) -> Iterator[Finding]:
    """Every level up to the one wanted, one after the other, for each of the receipt's adapters; nothing
    behind one that has not passed. Evidence that breaks a rule is a finding of the level that it is for.

    Raises what its levels raise, and what is lacking for a level.
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
    for level in levels[: gathered.level + 1]:
        finding = merge_findings([(evidence.adapter, level(evidence)) for evidence in gathered.parts])
        yield finding
        if not finding.passed:
            return
    if isinstance(gathered.lacking, REFUSED):
        yield _refused(gathered.level + 1, gathered.lacking)
    elif gathered.lacking is not None:
        raise gathered.lacking


def _refused(level: int, why: CommonloreError) -> Finding:
    return Finding(level, False, (f"WRONG: what this level reads is refused: {why}",), ())


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
