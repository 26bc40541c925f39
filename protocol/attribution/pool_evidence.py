"""From sealed statements to a pool's division: the same for who pays and for any stranger who checks.

Rules of this file:

- A statement counts for a receipt when it is on that receipt and the pool's adapter, its weights are whole
  and pay only the adapter's contributors. One that says to go by the priors has the weights that follow from
  them; one by scores names the measurement that allows it. Of each attributor one counts.
- The worker's own comes first, then the others by the lot that draws attributors; `judge` reads two.
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
from .faithfulness import PRIOR_METHODS
from .pools import ATTRIBUTORS, PoolDivision, PoolReceipt, divide_pool, draw_attributors
from .scoring import check_weights, prior_weights

SealedStatement = Sealed[AttributionStatement]


def counting(
    statements: Iterable[SealedStatement],
    manifest: AdapterManifest,
    receipt_hash: bytes,
    worker_key: bytes,
    beacon: bytes = b"",
) -> tuple[SealedStatement, ...]:
    """The statements that count for a receipt, in their order, two at most."""
    adapter, known = record_cid(manifest), {prior.payee for prior in manifest.priors}
    valid = {
        sealed.public_key: sealed
        for sealed in statements
        if (sealed.record.receipt_hash, sealed.record.adapter) == (receipt_hash, adapter)
        and _pays_only(sealed.record.weights, known)
        and _keeps_its_method(sealed.record, manifest)
    }
    own = [valid.pop(worker_key)] if worker_key in valid else []
    others = draw_attributors(beacon, receipt_hash, valid, len(valid))
    return (*own, *(valid[key] for key in others))[:ATTRIBUTORS]


def divide_by_statements(
    beacon: bytes,
    manifest: AdapterManifest,
    receipts: Mapping[bytes, int],
    statements: Sequence[SealedStatement],
    worker_key: bytes,
) -> PoolDivision:
    """A pool of one adapter's receipts (hash → contributors' amount) divided by the statements on them.

    Raises RemoteProtocolError where the manifest's priors are not whole.
    """
    by_receipt: dict[bytes, list[SealedStatement]] = {}
    for sealed in statements:
        by_receipt.setdefault(sealed.record.receipt_hash, []).append(sealed)
    pool = [
        PoolReceipt(digest, amount, _stated(by_receipt.get(digest, ()), manifest, digest, worker_key, beacon))
        for digest, amount in receipts.items()
    ]
    return divide_pool(beacon, pool, prior_weights(manifest))


def _stated(
    statements: Iterable[SealedStatement],
    manifest: AdapterManifest,
    receipt_hash: bytes,
    worker_key: bytes,
    beacon: bytes,
) -> tuple[tuple[Weight, ...], ...]:
    found = counting(statements, manifest, receipt_hash, worker_key, beacon)
    return tuple(sealed.record.weights for sealed in found)


def _keeps_its_method(statement: AttributionStatement, manifest: AdapterManifest) -> bool:
    """Whether a statement that names the priors has their weights, beside what the prompt's parts did, and
    one by scores names the measurement that they are above chance."""
    if statement.method not in PRIOR_METHODS:
        return statement.faithfulness is not None
    parts = payable(statement.effects, {prior.payee for prior in manifest.priors})
    return statement.weights == combine_channels(prior_weights(manifest), parts)


def _pays_only(weights: tuple[Weight, ...], contributors: Collection[bytes]) -> bool:
    """Whether weights are well-formed and pay only these."""
    try:
        check_weights(weights)
    except RemoteProtocolError:
        return False
    return all(weight.payee in contributors for weight in weights)
