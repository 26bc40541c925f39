"""What level 1 shows of an index beside its numbers: nobody chose its projection, and nobody its rows; and of
one whose rows were withdrawn in part, what its difference still shows.

Rules of this file: a receipt that was paid before somebody took rows back was paid rightly, whatever has gone
since. What cannot be shown any more is a NOTE, not an error; what stays and is wrong is one.
"""

from __future__ import annotations

from ...protocol.attribution.index_trees import (
    IndexCommitment,
    PublishedIndex,
    build_index_trees,
)
from ...protocol.attribution.indexing import check_beacon
from ...protocol.content.manifests import IndexManifest
from ...protocol.errors import NotFound, RemoteProtocolError
from ...protocol.ids import RAW, cid_of_digest
from .difference_evidence import does_not_hold
from .evidence import Evidence
from .findings import Checks
from .index_committed import require_same_sums
from .index_evidence import IndexEvidence
from .index_rows import check_rows_of, counted_rows


def check_projection(evidence: Evidence, index: IndexManifest, checks: Checks) -> None:
    """The index's projection is the one that its adapter's registration drew."""
    if evidence.unknown:
        raise NotFound(evidence.unknown)
    check_beacon(index, evidence.beacon)
    if evidence.beacon is None:
        return checks.shows(
            "NOTE: the index has no beacon (its network has no chain): its author could have chosen the "
            "projection by choosing the adapter's id"
        )
    checks.shows("the index's projection is drawn by the block that registered its adapter, on the chain")


def check_committed(evidence: Evidence, checks: Checks) -> None:
    """The index stands on the chain, and is just what its author committed there; or it is on none."""
    standing = evidence.standing
    if standing is None:
        return checks.shows(
            "NOTE: the index is not committed on a chain (its author has no bond, or its network no chain): "
            "whoever stated a wrong sum in it would lose nothing"
        )
    standing.require()
    assert evidence.index is not None
    index, made = evidence.index, standing.commitment
    if index.rows is None:
        return _check_committed_sums(index, made, checks)
    trees = build_index_trees(PublishedIndex(index.manifest, index.rows, index.sums))
    if trees.commitment(made.maker, cid_of_digest(made.manifest, RAW), index.manifest) != made:
        raise RemoteProtocolError("the index is not what its author committed on the chain")
    left = standing.seconds_left
    until = f"anybody can challenge them there for {left} s more" if left else "nobody has shown them wrong"
    checks.shows(f"the index's author committed to these very numbers on the chain, with a bond; {until}")
    return None


def _check_committed_sums(index: IndexEvidence, made: IndexCommitment, checks: Checks) -> None:
    """As far as that goes without rows: the sums as they grew row by row cannot be made again."""
    require_same_sums(index.manifest, index.sums, made)
    checks.shows(
        "the index's author committed to these sums, and to the root of its rows, on the chain, with a bond; "
        "since rows were withdrawn nobody can show there that they are wrong"
    )


def check_whole(evidence: Evidence, index: IndexManifest, checks: Checks) -> None:
    """The index holds the rows that the manifest plans of those that count, and the priors are theirs."""
    assert evidence.manifest is not None
    if evidence.withdrawn:
        return checks.shows(
            f"NOTE: {evidence.withdrawn}: whether the index has all rows that it must cannot be told any more"
        )
    if evidence.selection is None:
        raise RemoteProtocolError("the adapter's manifest does not say which rows were dropped, and why")
    counted = counted_rows(evidence.datanets, evidence.selection)
    check_rows_of(evidence.manifest, index, counted)
    checks.shows(
        f"of the {len(counted)} rows that count, selected again from the adapter's Datanets, the index holds "
        f"the {index.row_count} that its manifest plans and its projection draws; the priors are their shares"
    )
    return None


def check_left(evidence: Evidence, index: IndexEvidence, checks: Checks) -> None:
    """What can be shown of an index whose rows were withdrawn in part: its sums, from the rows that stay and
    the difference. Raises RemoteProtocolError where a sum of rows that all stay is wrong."""
    from ...worker.attribution.remainder import check_staying

    manifest, difference = index.manifest, index.difference
    gone = f"the vectors of withdrawn rows were deleted from the index ({evidence.withdrawn})"
    if difference is None:
        return checks.shows(
            f"NOTE: {gone}, and no difference of it is to be had: that its sums are those of its rows cannot "
            "be shown; they stand under its author's seal"
        )
    if wrong := does_not_hold(index, difference):
        return checks.shows(f"NOTE: {gone}, and the difference that is to be had does not hold: {wrong}")
    check_staying(manifest, difference.remainder, index.sums)
    count = difference.sealed.record.row_count
    checks.shows(
        f"NOTE: {gone}: {count} of {manifest.row_count} rows, all of the withdrawn shards; that their "
        "vectors made the difference cannot be shown any more, it rests on the sums under the author's seal"
    )
    checks.shows(
        f"what is left of the index makes its root with the leaves of those rows: each contributor's sum "
        f"({len(manifest.contributors)} in all) less the difference is exactly that of its "
        f"{manifest.row_count - count} rows that stay"
    )
    return None
