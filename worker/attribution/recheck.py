"""Whether somebody else's query vector is this answer's: computed again, within a stated tolerance.

Rules of this file: what counts is the money that would go elsewhere, the total variation between the
weights of the two vectors; one example, in the arithmetic that `adapted` states. Two machines stay well
within it, another base, checkpoint or answer far outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...protocol.attribution.pools import TOLERANCE_PPM, total_variation_ppm
from ...protocol.attribution.scoring import Sums, compute_scores, compute_weights, read_sums
from ...protocol.attribution.written_rows import Blob
from ...protocol.content.manifests import IndexManifest
from ...protocol.encoding.fields import PPM
from ...protocol.errors import RemoteProtocolError
from ...protocol.ids import Address
from ...protocol.receipts.records import Weight
from ...protocol.requests.records import ChatMessage
from .attributor import Attributor
from .sketch import Int8s


@dataclass(frozen=True, slots=True)
class QueryCheck:
    """A claimed query beside the one computed here: cosine, and how far apart the weights are."""

    identical: bool
    cosine: float
    apart_ppm: int

    @property
    def passed(self) -> bool:
        """Whether they agree within the tolerance."""
        return self.apart_ppm <= TOLERANCE_PPM


def recheck_query(
    attributor: Attributor,
    index: IndexManifest,
    claimed: bytes,
    sums: Blob,
    messages: Sequence[ChatMessage],
    output: Sequence[int] | str,
) -> QueryCheck:
    """Compute an answer's vector again and lay it beside the claimed one; `sums` is the index's blob.

    Raises NotFound where the adapter is not loaded, RemoteProtocolError on a query of another width,
    AttributionFailed.
    """
    own = attributor.query(index.adapter, messages, output)
    if len(claimed) != index.width:
        raise RemoteProtocolError(f"a query of {len(claimed)} bytes for an index of width {index.width}")
    theirs = np.frombuffer(claimed, np.int8)
    vectors = read_sums(index, sums)
    found, said = (_weights(query, vectors, index.payees) for query in (own, theirs))
    return QueryCheck(bool((own == theirs).all()), cosine_of(own, theirs), _apart(found, said))


def _weights(query: Int8s, sums: Sums, payees: Sequence[Address]) -> tuple[Weight, ...] | None:
    return compute_weights(compute_scores(query, sums), payees)


def _apart(a: tuple[Weight, ...] | None, b: tuple[Weight, ...] | None) -> int:
    """Without influence in one of the two, everything is apart."""
    if a is None or b is None:
        return 0 if a is b else PPM
    return total_variation_ppm(a, b)


def cosine_of(a: Int8s, b: Int8s) -> float:
    """Of two int8 vectors; 1 for two zero vectors, 0 where one is."""
    left, right = a.astype(np.int64), b.astype(np.int64)
    lengths = float(left @ left) * float(right @ right)
    if lengths == 0.0:
        return float(not left.any() and not right.any())
    return float(left @ right) / float(np.sqrt(lengths))
