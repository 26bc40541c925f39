"""`receipt verify`: gathers what a level reads from this machine, and carries out every level up to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import trio

from ...worker.models.cache import default_cache_dir, find_base
from ..closed_home import open_closed_home, receipts_of, sources_of
from ..config import Config
from ..home import Home
from .evidence import Evidence, gather
from .retraining_audit import Audit, verify_by_retraining
from .verifying import Finding, verify_integers, verify_query, verify_signatures

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """Which receipt, by whatever names it; how far; steps of each retraining (level 3)."""

    name: str
    level: int
    steps: int


def read_evidence(home: Home, config: Config, options: CheckOptions) -> Evidence:
    """What this machine knows of a receipt. Not for use within a running loop.

    Raises NotFound, ProtocolError, InvalidAdapter.
    """

    async def read() -> Evidence:
        async with open_closed_home(home, config) as closed:
            stored = await receipts_of(closed).find(options.name)
            return await gather(sources_of(closed), stored, options.level)

    return trio.run(read)


def check(
    home: Home, config: Config, evidence: Evidence, options: CheckOptions, progress: Progress
) -> Iterator[Finding]:
    """Every level up to the one wanted, one after the other; nothing behind one that has not passed.

    Raises what its levels raise.
    """
    levels: tuple[Callable[[], Finding], ...] = (
        lambda: verify_signatures(evidence),
        lambda: verify_integers(evidence),
        lambda: verify_query(evidence, _base(config, evidence)),
        lambda: verify_by_retraining(evidence, _audit(home, config, evidence, options.steps), progress),
    )
    for level in levels[: options.level + 1]:
        finding = level()
        yield finding
        if not finding.passed:
            return


def _audit(home: Home, config: Config, evidence: Evidence, steps: int) -> Audit:
    work_dir = home.jobs / "audit" / evidence.stored.receipt_hash.hex()[:16]
    return Audit(_base(config, evidence), work_dir, steps)


def _base(config: Config, evidence: Evidence) -> Path:
    if evidence.manifest is None:
        return Path()  # no adapter was used: no level needs it
    folder = Path(config.cache_dir) if config.cache_dir else default_cache_dir()
    return find_base(folder, evidence.manifest.base)
