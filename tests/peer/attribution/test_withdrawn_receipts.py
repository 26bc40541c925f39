"""What each level of `receipt verify` still finds of a receipt after a contributor took its rows back."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import pytest

from commonlore.peer.attribution.audit import Audit
from commonlore.peer.attribution.difference_evidence import TakenBack
from commonlore.peer.attribution.evidence import Evidence
from commonlore.peer.attribution.findings import Checks
from commonlore.peer.attribution.index_evidence import DifferenceEvidence
from commonlore.peer.attribution.parts_check import check_part_owners
from commonlore.peer.attribution.retraining_audit import verify_by_retraining
from commonlore.peer.attribution.verifying import verify_integers, verify_query
from commonlore.peer.settling.committed_indexes import IndexStanding
from commonlore.protocol.attribution.differences import IndexDifference, OpenedShard, counts_of, leaving
from commonlore.protocol.attribution.faithfulness import CHALLENGED_METHOD
from commonlore.protocol.attribution.index_trees import PublishedIndex, build_index_trees
from commonlore.protocol.attribution.scoring import prior_weights
from commonlore.protocol.content.blob_names import describe_blob
from commonlore.protocol.content.manifests import IndexManifest
from commonlore.protocol.content.rows import row_hash
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.ids import Address, cid_of, keccak256
from commonlore.protocol.receipts.records import AttributionStatement, Effects, PartEffect
from commonlore.protocol.signing.envelope import open_sealed, seal
from commonlore.protocol.signing.keys import PeerKey
from commonlore.worker.attribution.remainder import Remainder, take_out, taken_sums

SIZE = 1 << 28
Made = tuple[Evidence, Path]


@pytest.fixture(name="gone")
def _gone(made: Made) -> Evidence:
    """The second contributor's rows are gone, and so are their vectors."""
    return without_second(made[0])


def without_second(evidence: Evidence) -> Evidence:
    assert evidence.index is not None
    assert isinstance(evidence.index.rows, bytes)
    (datanet,) = evidence.datanets
    stays, fish = datanet.shards
    index = evidence.index.manifest
    positions = leaving(index, [(fish.payee, [row_hash(row) for row in fish.rows])])
    remainder = take_out(index, Remainder({}, evidence.index.rows), positions)
    record = IndexDifference(
        index.adapter, cid_of(b"index"), (OpenedShard(cid_of(b"fish"), cid_of(b"hashes")),), cid_of(b"gone"),
        cid_of(b"kept"), cid_of(b"sums"), counts_of(index, positions), 0,
    )  # fmt: skip
    sealed = open_sealed(seal(PeerKey.generate(keccak256(b"curator")), record), (IndexDifference,))
    left = DifferenceEvidence(sealed, remainder, taken_sums(index, remainder, evidence.index.sums))
    return dataclasses.replace(
        evidence,
        index=dataclasses.replace(evidence.index, rows=None, difference=left),
        datanets=(dataclasses.replace(datanet, shards=(stays,)),),
        withdrawn="1 shard of version 1 of Datanet 'd' taken back by who gave them",
        taken_back=TakenBack(frozenset(), {row_hash(row): fish.payee for row in fish.rows}),
    )


def restated(evidence: Evidence, **changes: object) -> Evidence:
    assert evidence.statement is not None
    statement = dataclasses.replace(evidence.statement.record, **changes)  # type: ignore[arg-type]
    raw = seal(PeerKey.generate(keccak256(b"worker")), statement)
    return dataclasses.replace(evidence, statement=open_sealed(raw, (AttributionStatement,)))


def test_every_sum_is_still_shown_and_rows_that_stay_are_computed_again(
    made: Made, gone: Evidence, tmp_path: Path
) -> None:
    integers, query = verify_integers(gone), verify_query(gone, made[1])
    assert (integers.passed, query.passed) == (True, True), (integers, query)
    assert "bit for bit" in integers.showed[-1]
    told = " ".join(integers.showed)
    assert "less the difference is exactly that of its 3 rows that stay" in told
    assert "3 of 6 rows, all of the withdrawn shards" in told
    assert sum("is its row's gradient" in said for said in query.showed) == 3, "of the rows that stay"
    remade = verify_by_retraining(gone, Audit(made[1], tmp_path, 1))
    assert remade.passed
    assert "nobody can train again on all that it learnt from" in remade.showed[-1]


def test_a_difference_that_is_missing_or_false_is_no_fault_of_the_receipt(made: Made, gone: Evidence) -> None:
    assert gone.index is not None
    assert gone.index.difference is not None
    missing = dataclasses.replace(gone, index=dataclasses.replace(gone.index, difference=None))
    found = verify_integers(missing)
    assert found.passed
    assert "no difference of it is to be had" in " ".join(found.showed)
    assert "no row of the index can be computed again" in verify_query(missing, made[1]).showed[-1]
    moved = {payee: vector + 1 for payee, vector in gone.index.difference.taken.items()}
    lying = dataclasses.replace(gone.index.difference, taken=moved)
    found = verify_integers(
        dataclasses.replace(gone, index=dataclasses.replace(gone.index, difference=lying))
    )
    assert found.passed
    assert "does not hold: the sum of 0x" in " ".join(found.showed)


def test_a_sum_of_rows_that_all_stay_is_still_seen_to_be_wrong(gone: Evidence) -> None:
    assert gone.index is not None
    index = gone.index.manifest
    sums = bytearray(gone.index.sums)
    sums[4 * index.width * index.payees.index(gone.datanets[0].shards[0].payee)] ^= 1
    lying = dataclasses.replace(index, sums=describe_blob([bytes(sums)])[0])
    sealed = open_sealed(seal(PeerKey.generate(keccak256(b"author")), lying, SIZE), (IndexManifest,), SIZE)
    found = dataclasses.replace(gone.index, sealed=sealed, sums=bytes(sums))
    told = verify_integers(dataclasses.replace(gone, index=found))
    assert not told.passed
    assert "in the index is not that of its rows that stay" in told.showed[-1]


def test_a_prompt_that_held_withdrawn_rows_is_told_from_one_that_is_elsewhere(
    made: Made, gone: Evidence
) -> None:
    unasked = dataclasses.replace(gone.stored, prompt=None)
    found = verify_query(dataclasses.replace(gone, stored=unasked, prompt_withdrawn=True, before=()), made[1])
    assert found.passed
    assert "held rows that were withdrawn, and was deleted with them" in found.showed[0]
    assert sum("is its row's gradient" in said for said in found.showed) == 3


def test_whose_a_withdrawn_row_was_is_known_by_its_hash(made: Made) -> None:
    (datanet,) = made[0].datanets
    tree, fish = (shard.payee for shard in datanet.shards)
    row = row_hash(datanet.shards[1].rows[-1])
    for by, right in ((fish, True), (tree, False)):
        effects = Effects(PPM, (PartEffect("row", row, by, PPM),))
        gone, checks = without_second(restated(made[0], effects=effects)), Checks(1, ())
        found = checks.run(partial(check_part_owners, gone, checks))
        assert found.passed == right
        assert not any("the word of who asked" in said for said in found.showed)


def test_a_row_that_was_challenged_and_then_withdrawn_is_a_note(made: Made, gone: Evidence) -> None:
    assert gone.index is not None
    assert gone.index.difference is not None
    place = next(iter(gone.index.difference.remainder.gone))
    assert gone.manifest is not None
    priors = prior_weights(gone.manifest)
    stated = restated(gone, challenged=place, method=CHALLENGED_METHOD, weights=priors)
    said = verify_query(stated, made[1]).showed
    assert f"NOTE: row {place} was challenged, and was withdrawn: whether rightly nobody can tell" in said


def test_committed_sums_are_compared_without_the_rows(made: Made, gone: Evidence) -> None:
    assert made[0].index is not None
    assert isinstance(made[0].index.rows, bytes)
    index = made[0].index.manifest
    trees = build_index_trees(PublishedIndex(index, made[0].index.rows, made[0].index.sums))
    committed = trees.commitment(Address(b"\xaa" * 20), cid_of(made[0].index.sealed.raw), index)
    found = verify_integers(dataclasses.replace(gone, standing=IndexStanding(committed)))
    assert found.passed
    assert any("committed to these sums, and to the root of its rows" in said for said in found.showed)
    for lie in ({"sums_root": bytes(32)}, {"rows_root": bytes(32)}):
        standing = IndexStanding(dataclasses.replace(committed, **lie))
        found = verify_integers(dataclasses.replace(gone, standing=standing))
        assert not found.passed
        assert "author committed on the chain" in found.showed[-1]
