"""From sealed statements to a pool's division: the same for who pays and for any stranger who checks.

Rules of this file:

- A statement counts for a receipt when it is on that receipt and the pool's adapter, its weights are whole
  and pay only the adapter's contributors. One that says to go by the priors has the weights that follow from
  them, and from what the prompt's parts did only where it names an index: without one nobody can load the
  adapter for attribution and measure those again. One by scores names the measurement that allows it, which
  the adapter's author made of that index and which is there to be read; one that challenges an index says so
  by its method, and names the row. Of each attributor one counts.
- The worker's own comes first, then the others by the lot that draws attributors; `judge` reads two. Without
  the worker's own none counts: a word that nobody answers for with the receipt could be any stranger's. Nor
  does one beside it that is by another index: a row that it challenges would be of something else.
- Statements on receipts that were not drawn change nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from ..content.manifests import AdapterManifest
from ..encoding.codec import record_cid
from ..errors import RemoteProtocolError
from ..receipts.channels import combine_channels, payable
from ..receipts.records import AttributionStatement, Weight
from ..signing.envelope import Sealed
from .challenges import count_challenges, is_well_put
from .faithfulness import PRIOR_METHODS, Measurements, allows_scores
from .pools import ATTRIBUTORS, Judged, PoolDivision, PoolReceipt, divide_pool, draw_attributors, judge
from .scoring import check_weights, prior_weights

SealedStatement = Sealed[AttributionStatement]


def counting(
    statements: Iterable[SealedStatement],
    manifest: AdapterManifest,
    receipt_hash: bytes,
    worker_key: bytes,
    measured: Measurements,
    beacon: bytes = b"",
) -> tuple[SealedStatement, ...]:
    """The statements that count for a receipt, in their order, two at most."""
    adapter, known = record_cid(manifest), {prior.payee for prior in manifest.priors}
    valid = {
        sealed.public_key: sealed
        for sealed in statements
        if (sealed.record.receipt_hash, sealed.record.adapter) == (receipt_hash, adapter)
        and _pays_only(sealed.record.weights, known)
        and _keeps_its_method(sealed.record, manifest, measured)
    }
    if worker_key not in valid:
        return ()
    own = valid.pop(worker_key)
    valid = {key: one for key, one in valid.items() if one.record.index == own.record.index}
    others = draw_attributors(beacon, receipt_hash, valid, len(valid))
    return (own, *(valid[key] for key in others))[:ATTRIBUTORS]


def judge_statements(counted: Sequence[SealedStatement], manifest: AdapterManifest) -> Judged:
    """What the statements that count for a receipt make of it."""
    stated = [sealed.record.weights for sealed in counted]
    return judge(stated, prior_weights(manifest), count_challenges(sealed.record for sealed in counted))


def divide_by_statements(
    beacon: bytes,
    manifest: AdapterManifest,
    receipts: Mapping[bytes, int],
    statements: Sequence[SealedStatement],
    worker_key: bytes,
    measured: Measurements,
) -> PoolDivision:
    """A pool of one adapter's receipts (hash → contributors' amount) divided by the statements on them;
    `measured` are the measurements that these may name.

    Raises RemoteProtocolError where the manifest's priors are not whole.
    """
    by_receipt: dict[bytes, list[SealedStatement]] = {}
    for sealed in statements:
        by_receipt.setdefault(sealed.record.receipt_hash, []).append(sealed)

    def entry(digest: bytes, amount: int) -> PoolReceipt:
        given = by_receipt.get(digest, ())
        found = [each.record for each in counting(given, manifest, digest, worker_key, measured, beacon)]
        return PoolReceipt(digest, amount, tuple(each.weights for each in found), count_challenges(found))

    pool = [entry(digest, amount) for digest, amount in receipts.items()]
    return divide_pool(beacon, pool, prior_weights(manifest))


def _keeps_its_method(
    statement: AttributionStatement, manifest: AdapterManifest, measured: Measurements
) -> bool:
    """Whether a statement that names the priors has their weights, beside what the prompt's parts did, and
    one by scores names the measurement that they are above chance."""
    if not is_well_put(statement):
        return False
    if statement.method not in PRIOR_METHODS:
        return allows_scores(statement, measured)
    return statement.weights == priors_with_parts(statement, manifest)


def priors_with_parts(statement: AttributionStatement, manifest: AdapterManifest) -> tuple[Weight, ...]:
    """The weights that a statement by the priors must have: theirs, with what it states of the prompt's parts
    where it names the index beside which these can be measured again."""
    parts = payable(statement.effects, {prior.payee for prior in manifest.priors})
    return combine_channels(prior_weights(manifest), None if statement.index is None else parts)


def _pays_only(weights: tuple[Weight, ...], contributors: Collection[bytes]) -> bool:
    """Whether weights are well-formed and pay only these."""
    try:
        check_weights(weights)
    except RemoteProtocolError:
        return False
    return all(weight.payee in contributors for weight in weights)
