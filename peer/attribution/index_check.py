"""What level 1 shows of an index before its numbers: nobody chose its projection, and nobody its rows."""

from __future__ import annotations

from ...protocol.attribution.index_trees import PublishedIndex, build_index_trees
from ...protocol.attribution.indexing import check_beacon
from ...protocol.content.manifests import IndexManifest
from ...protocol.errors import NotFound, RemoteProtocolError
from ...protocol.ids import RAW, cid_of_digest
from .evidence import Evidence
from .findings import Checks
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
    trees = build_index_trees(PublishedIndex(index.manifest, index.rows, index.sums))
    if trees.commitment(made.maker, cid_of_digest(made.manifest, RAW), index.manifest) != made:
        raise RemoteProtocolError("the index is not what its author committed on the chain")
    left = standing.seconds_left
    until = f"anybody can challenge them there for {left} s more" if left else "nobody has shown them wrong"
    checks.shows(f"the index's author committed to these very numbers on the chain, with a bond; {until}")
    return None


def check_whole(evidence: Evidence, index: IndexManifest, checks: Checks) -> None:
    """The index holds the rows that the manifest plans of those that count, and the priors are theirs."""
    assert evidence.manifest is not None
    if evidence.withdrawn:
        return checks.shows(f"NOTE: {evidence.withdrawn}: whether the index has all its rows cannot be told")
    if evidence.selection is None:
        raise RemoteProtocolError("the adapter's manifest does not say which rows were dropped, and why")
    counted = counted_rows(evidence.datanets, evidence.selection)
    check_rows_of(evidence.manifest, index, counted)
    checks.shows(
        f"of the {len(counted)} rows that count, selected again from the adapter's Datanets, the index holds "
        f"the {index.row_count} that its manifest plans and its projection draws; the priors are their shares"
    )
    return None
