"""Whether an adapter's early checkpoint and factors are what its recipe and rows make: both are made again.

Rules of this file: a checkpoint that nobody's training passed through, or factors that were not fitted at it,
could be made to suit a contributor; no index or statement would show it. Another machine rounds otherwise, so
likeness is asked for, not equal bytes.
"""

from __future__ import annotations

from functools import partial

from ...protocol.attribution.indexing import trained_rows
from ...protocol.content.manifests import Row
from ...protocol.errors import NotFound, RemoteProtocolError
from ...protocol.ids import Address
from .audit import Audit
from .evidence import Evidence
from .findings import Checks
from .index_rows import committed_rows, counted_rows

LEAST_ADAPTER, LEAST_FACTORS = 0.7, 0.99
"""Cosines. Measured on SmolLM2-135M: fp32 for bf16, further apart than two machines, gives 0.989 after four
steps and 0.892 after thirteen; another seed -0.01."""
COMPARED_ROWS = 3


def trained_on(evidence: Evidence) -> list[tuple[Address, Row]]:
    """The rows that the adapter learnt from, in training's order, each behind its contributor's account.

    Raises NotFound where they are not here, RemoteProtocolError where the record of dropped rows is wrong.
    """
    assert evidence.manifest is not None
    if evidence.selection is None or not evidence.datanets:
        raise NotFound("training again needs the rows of the adapter's Datanets on this machine")
    rows = committed_rows(evidence.datanets)
    heldout = evidence.manifest.indexed.heldout if evidence.manifest.indexed else 0
    counted = counted_rows(evidence.datanets, evidence.selection)
    return [(payee, rows[digest][1]) for payee, digest in trained_rows(counted, heldout)]


def check_remade(evidence: Evidence, audit: Audit, checks: Checks) -> None:
    """Make early checkpoint and factors again and compare. Raises NotFound, InvalidAdapter, InvalidModel,
    TrainingFailed, AttributionFailed."""
    from ...worker.attribution.attributor import Attributor
    from ...worker.attribution.remade import (
        curvature_again,
        early_again,
        likeness_of_adapters,
        likeness_of_factors,
    )
    from ...worker.attribution.subject import subject_of
    from ...worker.factory.job import Pair, TrainJob, job_digest
    from ...worker.models.reference import load_base

    assert evidence.manifest is not None
    assert evidence.index is not None
    assert evidence.early is not None
    if evidence.manifest.recipe.rank != evidence.manifest.rank:
        raise RemoteProtocolError("the adapter's recipe is for another rank: it was not trained by it")
    rows = [row for _, row in trained_on(evidence)]
    pairs = tuple(Pair(row.question, row.answer) for row in rows)
    base = load_base(audit.base_dir)
    job = TrainJob(base.directory, pairs, (), audit.recipe_of(evidence.manifest))
    folder = audit.work_dir / f"remade-{job_digest(job, base.id)[:24]}"
    beacon = evidence.index.manifest.beacon
    subject = subject_of(evidence.manifest, evidence.early, evidence.curvature, beacon)
    early = early_again(job, folder, partial(audit.progress, "the early checkpoint again"))
    like = likeness_of_adapters(base, subject, early)
    _tell(checks, "the early checkpoint", "the recipe and the rows", like, LEAST_ADAPTER)
    if evidence.curvature is not None:
        told = partial(audit.progress, "the curvature again")
        fitted = curvature_again(base, job, evidence.early, folder, told)
        some = rows[:: max(1, len(rows) // COMPARED_ROWS)][:COMPARED_ROWS]
        like = likeness_of_factors(Attributor(base), subject, fitted, some)
        _tell(
            checks,
            "what the curvature makes of gradients",
            "the early checkpoint and the rows",
            like,
            LEAST_FACTORS,
        )


def _tell(checks: Checks, what: str, source: str, like: float, least: float) -> None:
    told = f"what {source} give again: cosine {like:.4f} (at least {least})"
    if like >= least:
        return checks.shows(f"{what} is {told}")
    checks.fails(f"{what} is not {told}")  # also where it is no number
