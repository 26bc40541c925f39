"""What anyone can check of a receipt, level by level, and what each level does not show.

Rules of this file:
- L0: signatures, seals and sums. L1: the integers from the query vector on, bit for bit. L2: the query vector
  and drawn rows of the index, within a stated tolerance. L3: training again without each contributor.
- A level that cannot be carried out raises; one that finds something wrong says so and has not passed.
- Only the worker's own view is checked here, from what is published: nobody is believed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ...protocol.attribution.pools import TOLERANCE_PPM
from ...protocol.attribution.scoring import check_weights
from ...protocol.encoding.codec import record_hash
from ...protocol.encoding.fields import PPM
from ...protocol.errors import NotFound, RemoteProtocolError
from ...protocol.receipts.credits import sum_shares
from ...protocol.receipts.outputs import output_root
from ...protocol.receipts.records import AttributionStatement
from ...protocol.receipts.rules import check_voucher_names
from ...protocol.signing.eip712 import require_signer
from .evidence import NO_PROMPT, Evidence
from .findings import Checks, Finding
from .index_check import check_committed, check_left, check_projection, check_whole
from .method_check import check_follows, check_unindexed
from .others_measured import tell_others
from .parts_check import check_part_owners
from .row_recheck import recheck_rows
from .second_check import check_second_draws, check_second_seals, check_seconds_follow, other_vectors

if TYPE_CHECKING:
    from ...worker.attribution.attributor import Attributor
    from ...worker.attribution.recheck import QueryCheck

Tell = Callable[[str], None]


def verify_signatures(evidence: Evidence) -> Finding:
    """Level 0."""
    checks = Checks(0, ("that the weights follow from anything", "that the model was run"))
    return checks.run(lambda: _signatures(evidence, checks))


def _signatures(evidence: Evidence, checks: Checks) -> None:
    stored, receipt = evidence.stored, evidence.stored.receipt
    require_signer(evidence.domain, receipt, stored.signed.signature, receipt.lane)
    checks.shows(f"the receipt is signed by its lane 0x{receipt.lane.hex()}")
    if record_hash(stored.signed.details) != receipt.details:
        raise RemoteProtocolError("the receipt's details are not those it commits")
    if stored.tokens and output_root(stored.tokens) != receipt.output_root:
        raise RemoteProtocolError("the output tokens here are not those the receipt commits")
    if (whole := sum_shares(receipt.shares)) != receipt.price:
        raise RemoteProtocolError(f"the role shares add up to {whole}, not to the price {receipt.price}")
    checks.shows(f"its role shares add up to its price of {receipt.price}, its tokens to its output root")
    if stored.voucher is None:
        checks.shows("no voucher pays it yet")
    else:
        check_voucher_names(evidence.domain, stored.voucher.voucher, receipt)
        require_signer(evidence.domain, stored.voucher.voucher, stored.voucher.signature, receipt.payer)
        checks.shows("a voucher signed by its payer names it")
    if (whole := sum(credit.amount for credit in evidence.credits)) != receipt.price:
        raise RemoteProtocolError(f"its credits add up to {whole}, not to the price {receipt.price}")
    checks.shows(f"its {len(evidence.credits)} credits add up to its price")
    if evidence.manifest is not None:
        _stated(evidence, checks)


def _stated(evidence: Evidence, checks: Checks) -> None:
    assert evidence.manifest is not None
    if evidence.statement is None:
        checks.shows("no attribution statement: the manifest's prior weights apply")
        return
    statement = evidence.statement.record
    check_weights(statement.weights)
    if (statement.receipt_hash, statement.adapter) != (evidence.stored.receipt_hash, evidence.adapter):
        raise RemoteProtocolError("the attribution statement is about another receipt or adapter")
    known = {prior.payee for prior in evidence.manifest.priors}
    if not {weight.payee for weight in statement.weights} <= known:
        raise RemoteProtocolError("the attribution statement pays an account that contributed nothing")
    _check_parts(evidence, statement)
    check_second_seals(evidence, checks)
    paid = f"{len(statement.weights)} of the adapter's {len(known)} contributors"
    checks.shows(f"the weights that the worker sealed make {PPM:,} ppm, for {paid}")


def _check_parts(evidence: Evidence, statement: AttributionStatement) -> None:
    """What is stated to have had an effect is what the receipt says was in the prompt."""
    details = evidence.stored.signed.details
    named = {*details.retrieved_rows, *details.tool_calls, details.prompt_template}
    stated = {part.part for part in statement.effects.parts} if statement.effects else set()
    if not stated <= named:
        raise RemoteProtocolError("the attribution statement pays for what was not in the prompt")


def verify_integers(evidence: Evidence) -> Finding:
    """Level 1."""
    not_shown = (
        "that the query vector is this answer's (level 2)",
        "that the contributors whose rows were dropped as noise gave noise (their author's word)",
        "that the index rows are the gradients of the rows they name (level 2 draws some)",
    )
    checks = Checks(1, not_shown)
    return checks.run(lambda: _integers(evidence, checks))


def _integers(evidence: Evidence, checks: Checks) -> None:
    from ...worker.attribution.index import check_index

    if evidence.manifest is None:
        return checks.shows("no adapter was used: there is nothing to attribute")
    if evidence.wrong:
        raise RemoteProtocolError(evidence.wrong)
    if (told := tell_others(evidence.others, evidence.faithfulness)) is not None:
        checks.shows(f"NOTE: {told}")
    if evidence.statement is None or evidence.index is None:
        for said in check_unindexed(evidence):
            checks.shows(said)
        return None
    index = evidence.index
    check_projection(evidence, index.manifest, checks)
    check_committed(evidence, checks)
    check_whole(evidence, index.manifest, checks)
    if index.rows is None:
        check_left(evidence, index, checks)
    else:
        check_index(index.manifest, index.rows, index.sums)
        checks.shows(
            f"the author's index of {index.manifest.row_count} rows is what it commits: "
            f"each contributor's sum ({len(index.manifest.contributors)} in all) is exactly that of its rows"
        )
    check_second_draws(evidence, checks)
    followed = check_follows(evidence, evidence.statement.record, index.query)
    check_seconds_follow(evidence, checks)
    check_part_owners(evidence, checks)
    for said in followed:
        checks.shows(said)
    return None


def verify_query(evidence: Evidence, base_dir: Path) -> Finding:
    """Level 2: takes a forward and a backward pass for the answer, and as much for each drawn row.

    Raises NotFound, AttributionFailed, InvalidAdapter, InvalidModel.
    """
    not_shown = (
        "that the answer is what the model gives (its tokens are taken as delivered)",
        "rows of the index that were not drawn",
        "that scores predict retraining (level 3, and the adapter's faithfulness)",
    )
    checks = Checks(2, not_shown)
    return checks.run(lambda: _query(evidence, base_dir, checks))


def _query(evidence: Evidence, base_dir: Path, checks: Checks) -> None:
    from ...worker.attribution.recheck import recheck_query
    from .effect_check import recheck_effects

    if evidence.manifest is None or evidence.statement is None or evidence.index is None:
        return checks.shows("no statement names an index: there is no query vector to compute again")
    prompt = evidence.stored.prompt
    if prompt is None and evidence.prompt_withdrawn:
        checks.shows(
            "NOTE: the prompt of this receipt held rows that were withdrawn, and was deleted with them: "
            "nobody can compute its query vector again; what level 1 shows stands"
        )
        return recheck_rows(evidence, attributor_of(evidence, base_dir), checks)
    if prompt is None:
        raise NotFound(NO_PROMPT)
    attributor = attributor_of(evidence, base_dir)
    output = evidence.before + evidence.stored.tokens
    index = evidence.index.manifest
    sums = evidence.index.sums

    def again(query: bytes) -> QueryCheck:
        return recheck_query(attributor, index, query, sums, prompt.messages, output)

    tell_query(again(evidence.index.query), "the query vector", checks)
    for second in other_vectors(evidence):
        tell_query(again(second.query), f"the query vector of {second.named}", checks)
    if prompt.parts or evidence.statement.record.effects is not None:
        agrees, told = recheck_effects(evidence, attributor, prompt)
        (checks.shows if agrees else checks.fails)(told)
    return recheck_rows(evidence, attributor, checks)


def tell_query(found: QueryCheck, whose: str, checks: Checks) -> None:
    """What computing a query vector again has shown."""
    told = (
        f"cosine {found.cosine:.6f}, {found.apart_ppm} ppm of the weights elsewhere (at most {TOLERANCE_PPM})"
    )
    if not found.passed:
        checks.fails(f"{whose} is not this answer's: {told}")
    elif found.identical:
        checks.shows(f"{whose} computed again is the same, bit for bit")
    else:
        checks.shows(f"{whose} computed again agrees: {told}")


def attributor_of(evidence: Evidence, base_dir: Path) -> Attributor:
    """The adapter's base with its early checkpoint under the index's own projection."""
    from ...worker.attribution.attributor import Attributor
    from ...worker.attribution.subject import subject_of
    from ...worker.models.reference import load_base

    assert evidence.manifest is not None
    assert evidence.early is not None
    assert evidence.index is not None
    attributor = Attributor(load_base(base_dir))
    beacon = evidence.index.manifest.beacon
    attributor.load(subject_of(evidence.manifest, evidence.early, evidence.curvature, beacon))
    attributor.use_index(evidence.index.manifest, evidence.index.sums)
    return attributor
