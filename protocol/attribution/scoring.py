"""From an answer's int8 vector to its contributors' weights: integers only, the same on every machine.

Rules of this file:

- An answer's query is a vector of `width` int8 values in -127 … 127 (-128 does not occur); so is an index
  row, whose values are one weight with either sign. A contributor's sum is the exact sum of its rows.
- A contributor's score is query · sum, less what chance alone reaches: two vectors of no common direction
  have an inner product of |query| · |sum| / sqrt(width) by standard deviation, and a score within
  NOISE_DEVIATIONS of them is nobody's due. (Without this, what the projection adds at random to strangers'
  scores is paid: measured, a third more pay in the wrong hands.)
- An account that occurs twice has the sum of its scores. A negative score counts as zero, and only after
  summing: clipping row by row overpays contributors from other domains.
- Weights are the scores in parts per million by largest remainder, ties to the lowest account, zeros left
  out, sorted by account. Where no score is positive, the manifest's priors apply.

Why int64 never overflows: |query| <= 127 < 2^7; a sum of at most MAX_INDEXED_ROWS = 4,096 shards · 100,000
rows (< 2^29) stays below 2^7 · 2^29 = 2^36 in each place; width <= 2^17 places. So every partial sum of a
dot product stays below 2^7 · 2^36 · 2^17 = 2^60. All three bounds are enforced here on every input. Squares
of sums are taken in two halves of 18 bits, whose products stay below 2^36 and their totals below 2^53.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from math import isqrt
from mmap import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

from ..content.blob_names import describe_blob
from ..content.manifests import MAX_ROWS_PER_SHARD, AdapterManifest, IndexManifest, PriorWeight
from ..encoding.fields import PPM
from ..errors import LocalProtocolError, RemoteProtocolError
from ..ids import CHUNK_SIZE, Address, Cid
from ..receipts.channels import combine_channels, payable
from ..receipts.credits import apportion
from ..receipts.records import AttributionStatement, Weight

MAX_WIDTH = 1 << 17
MAX_MAGNITUDE = 127
MAX_INDEXED_ROWS = 4_096 * MAX_ROWS_PER_SHARD
NOISE_DEVIATIONS = 2
_HALF = 18
PRIOR_METHOD = "prior"
"""The `method` of a statement whose weights are the manifest's priors."""

Int8s = npt.NDArray[np.int8]
Int64s = npt.NDArray[np.int64]
Sums = npt.NDArray[np.int64] | npt.NDArray[np.int32]
_SUMS_AT_ONCE = 64


def compute_scores(query: Int8s, sums: Sums) -> list[int]:
    """query · sum less the noise, one integer a contributor, from (width,) int8 and (contributors, width)
    int64 or int32, which are read some at a time: a mapped file may be larger than the memory.

    Raises LocalProtocolError on other shapes or types and beyond the bounds that keep int64 exact.
    """
    known = sums.dtype == np.int64 or sums.dtype == np.int32
    if query.dtype != np.int8 or not known or query.ndim != 1 or sums.shape[1:] != query.shape:
        raise LocalProtocolError(f"no scores from a {_kind(query)} query and {_kind(sums)} sums")
    if len(query) > MAX_WIDTH or _exceeds(query, MAX_MAGNITUDE):
        raise LocalProtocolError(f"a query holds at most {MAX_WIDTH} values in -127 … 127")
    starts = range(0, len(sums), _SUMS_AT_ONCE)
    return [score for at in starts for score in _score(query, sums[at : at + _SUMS_AT_ONCE])]


def _score(query: Int8s, part: Sums) -> list[int]:
    sums = part.astype(np.int64)
    if _exceeds(sums, MAX_MAGNITUDE * MAX_INDEXED_ROWS):
        raise LocalProtocolError(f"sums of more than {MAX_INDEXED_ROWS} rows cannot be scored exactly")
    products: list[int] = (sums @ query.astype(np.int64)).tolist()
    return [product - noise for product, noise in zip(products, _noise(query, sums), strict=True)]


def _noise(query: Int8s, sums: Int64s) -> list[int]:
    """NOISE_DEVIATIONS · |query| · |sum| / sqrt(width), rounded down, of each sum."""
    length = int(np.square(query.astype(np.int64)).sum()) * NOISE_DEVIATIONS**2
    high, low = sums >> _HALF, sums & ((1 << _HALF) - 1)
    parts = [np.einsum("cw,cw->c", a, b).tolist() for a, b in ((high, high), (high, low), (low, low))]
    squares = [(a << 2 * _HALF) + (b << _HALF + 1) + c for a, b, c in zip(*parts, strict=True)]
    return [isqrt(length * square // len(query)) for square in squares]


def compute_weights(scores: Sequence[int], payees: Sequence[Address]) -> tuple[Weight, ...] | None:
    """The contributors' weights, summing to 1,000,000; None where no influence was found (then:
    `prior_weights`)."""
    merged = _merge(zip(payees, scores, strict=True))
    positive = {payee: score for payee, score in merged.items() if score > 0}
    return _to_weights(positive) if positive else None


def prior_weights(manifest: AdapterManifest) -> tuple[Weight, ...]:
    """The manifest's own weights. Raises RemoteProtocolError unless they sum to 1,000,000."""
    merged = _merge((prior.payee, prior.ppm) for prior in manifest.priors)
    if (whole := sum(merged.values())) != PPM:
        raise RemoteProtocolError(f"the prior weights of {manifest.name!r} add up to {whole} ppm, not {PPM}")
    return _to_weights(merged)


def compute_priors(row_counts: Iterable[tuple[Address, int]]) -> tuple[PriorWeight, ...]:
    """Prior weights in proportion to rows contributed. Raises LocalProtocolError where there are no rows."""
    return tuple(PriorWeight(weight.payee, weight.ppm) for weight in _to_weights(_merge(row_counts)))


def mix_priors(parts: Iterable[tuple[AdapterManifest, int]]) -> tuple[PriorWeight, ...]:
    """The priors of what is made of several adapters: theirs, mixed by the weights that they have in it.

    Raises RemoteProtocolError where an adapter's own priors are not whole, LocalProtocolError without weight.
    """
    mixed = [(own.payee, weight * own.ppm) for manifest, weight in parts for own in prior_weights(manifest)]
    return compute_priors(mixed)


def sum_rows(rows: Int8s) -> Int64s:
    """The exact sum, (width,) int64, of one contributor's rows, (rows, width) int8.

    Raises LocalProtocolError.
    """
    if (
        rows.dtype != np.int8
        or rows.ndim != 2
        or _exceeds(rows, MAX_MAGNITUDE)
        or len(rows) > MAX_INDEXED_ROWS
    ):
        raise LocalProtocolError(f"index rows are (rows, width) int8 in -127 … 127, not {_kind(rows)}")
    total: Int64s = rows.sum(axis=0, dtype=np.int64)
    return total


def write_sums(sums: Iterable[Int64s]) -> bytes:
    """Contributors' sums as the blob that an IndexManifest names.

    Raises LocalProtocolError beyond what four bytes hold.
    """
    written = bytearray()
    for vector in sums:
        if _exceeds(vector, MAX_MAGNITUDE * MAX_ROWS_PER_SHARD):
            raise LocalProtocolError(f"sums of more than {MAX_ROWS_PER_SHARD} rows")
        written += vector.astype("<i4").data
    return bytes(written)


def check_contributors(index: IndexManifest) -> None:
    """Raises RemoteProtocolError unless an index names each account once, ascending, and whose every row is.

    The noise of an account's sum is less than that of the sums of its parts: whoever divided it would pay it
    less.
    """
    if list(index.payees) != sorted(set(index.payees)):
        raise RemoteProtocolError("an index's contributors must be sorted by account, each account once")
    rows = sum(each.row_count for each in index.contributors)
    if rows != index.row_count or rows > MAX_ROWS_PER_SHARD:
        raise RemoteProtocolError(
            f"an index of {index.row_count} rows, {rows} of contributors; at most {MAX_ROWS_PER_SHARD} may be"
        )


def check_shape(index: IndexManifest) -> None:
    """The same, and that its width is one, and each row has its hash: before anything is counted out."""
    if not 0 < index.width <= MAX_WIDTH or index.width % 8:
        raise RemoteProtocolError(f"an index of width {index.width}")
    check_contributors(index)
    if len(index.row_hashes) != index.row_count:
        raise RemoteProtocolError(f"an index of {index.row_count} rows with {len(index.row_hashes)} hashes")


def read_sums(index: IndexManifest, blob: bytes | mmap) -> npt.NDArray[np.int32]:
    """(contributors, width) from the blob that an index names, which is read in its place.

    Raises RemoteProtocolError on another blob and on impossible sums.
    """
    width = index.width
    if not 0 < width <= MAX_WIDTH:
        raise RemoteProtocolError(f"an index of width {width}; it must be in 1 … {MAX_WIDTH}")
    check_contributors(index)
    if len(blob) != index.sums_bytes:
        raise RemoteProtocolError(f"contributors' sums of {len(blob)} bytes; they need {index.sums_bytes}")
    if name_of(blob) != index.sums:
        raise RemoteProtocolError(f"the contributors' sums are not those that {index.sums} names")
    vectors: npt.NDArray[np.int32] = np.frombuffer(blob, "<i4").reshape(-1, width)
    for each, vector in zip(index.contributors, vectors, strict=True):
        if _exceeds(vector, MAX_MAGNITUDE * each.row_count):
            raise RemoteProtocolError(
                f"{each.row_count} rows cannot have the sum given for 0x{each.payee.hex()}"
            )
    return vectors


def name_of(blob: bytes | mmap) -> Cid:
    """The content id of a blob that may be a mapped file, read a chunk at a time."""
    starts = range(0, len(blob), CHUNK_SIZE)
    return describe_blob(blob[start : start + CHUNK_SIZE] for start in starts)[0]


def check_weights(weights: Sequence[Weight]) -> None:
    """Raises RemoteProtocolError unless weights are positive, sorted by account without repeats, and make
    1,000,000."""
    accounts = [weight.payee for weight in weights]
    if accounts != sorted(set(accounts)) or any(weight.ppm == 0 for weight in weights):
        raise RemoteProtocolError("weights must be positive and sorted by account, each account once")
    if (whole := sum(weight.ppm for weight in weights)) != PPM:
        raise RemoteProtocolError(f"weights add up to {whole} ppm, not {PPM}")


def recheck_statement(
    statement: AttributionStatement,
    query: Int8s,
    index: tuple[Sequence[Address], Sums],
    contributors: Collection[Address] = (),
) -> None:
    """Recomputes a statement's weights from an index's payees and sums. Raises RemoteProtocolError where they
    do not follow from the query.

    A statement by influence must be what `compute_weights` gives, with what was stated of a prompt's parts by
    the adapter's `contributors`; one by priors is right where that gives None.
    """
    check_weights(statement.weights)
    payees, sums = index
    weights = compute_weights(compute_scores(query, sums), payees)
    if weights is not None and statement.effects is not None:
        weights = combine_channels(weights, payable(statement.effects, contributors))
    if weights != (None if statement.method == PRIOR_METHOD else statement.weights):
        raise RemoteProtocolError("the attribution's weights do not follow from its query and its index")


def _merge(parts: Iterable[tuple[Address, int]]) -> dict[Address, int]:
    merged: dict[Address, int] = {}
    for payee, amount in parts:
        merged[payee] = merged.get(payee, 0) + amount
    return merged


def _to_weights(amounts: dict[Address, int]) -> tuple[Weight, ...]:
    payees = sorted(amounts)
    parts = apportion(PPM, [amounts[payee] for payee in payees], payees)
    return tuple(Weight(payee, ppm) for payee, ppm in zip(payees, parts, strict=True) if ppm)


def _exceeds(values: npt.NDArray[Any], bound: int) -> bool:
    return values.size > 0 and (int(values.max()) > bound or int(values.min()) < -bound)


def _kind(values: npt.NDArray[Any]) -> str:
    return f"{values.shape} {values.dtype}"
