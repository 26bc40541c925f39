"""What each level of `receipt verify` finds, on a real answer of a tiny adapter, and on forged ones."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commonlore.peer.attribution.audit import Audit
from commonlore.peer.attribution.evidence import Evidence
from commonlore.peer.attribution.findings import Finding
from commonlore.peer.attribution.others_measured import OtherMeasurement
from commonlore.peer.attribution.receipt_check import CheckOptions, Gathered, check
from commonlore.peer.attribution.retraining_audit import verify_by_retraining
from commonlore.peer.attribution.second_draw import DrawFacts
from commonlore.peer.attribution.second_evidence import SecondEvidence
from commonlore.peer.attribution.verifying import verify_integers, verify_query, verify_signatures
from commonlore.peer.config import Config
from commonlore.peer.datanets.withdrawing import forget_jobs
from commonlore.peer.home import Home
from commonlore.peer.settling.committed_indexes import IndexStanding
from commonlore.protocol.attribution.faithfulness import (
    COARSE_METHOD,
    UNMEASURED_METHOD,
    Correlations,
    Faithfulness,
)
from commonlore.protocol.attribution.index_trees import PublishedIndex, build_index_trees
from commonlore.protocol.attribution.indexing import projection_seed
from commonlore.protocol.attribution.pools import Basis
from commonlore.protocol.attribution.scoring import (
    PRIOR_METHOD,
    compute_scores,
    compute_weights,
    prior_weights,
    read_sums,
)
from commonlore.protocol.content.blob_names import describe_blob
from commonlore.protocol.content.copies import RULE
from commonlore.protocol.content.manifests import IndexManifest, Row
from commonlore.protocol.content.rows import row_hash
from commonlore.protocol.content.selections import DroppedRow, RowSelection
from commonlore.protocol.encoding.codec import record_cid
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import CommonloreError, InvalidShard, NotFound
from commonlore.protocol.gossip.adverts import AdapterRecord
from commonlore.protocol.ids import Address, PeerId, cid_of, keccak256
from commonlore.protocol.receipts.records import (
    AttributionStatement,
    Effects,
    PartEffect,
    Weight,
)
from commonlore.protocol.receipts.seconding import BondedList, DrawnSecond
from commonlore.protocol.requests.records import PromptPart
from commonlore.protocol.signing.bindings import bind
from commonlore.protocol.signing.envelope import open_sealed, seal
from commonlore.protocol.signing.keys import AccountKey, PeerKey

SIZE = 1 << 28


def restated(evidence: Evidence, **changes: Any) -> Evidence:
    assert evidence.statement is not None
    statement = dataclasses.replace(evidence.statement.record, **changes)
    raw = seal(PeerKey.generate(keccak256(b"worker")), statement)
    return dataclasses.replace(evidence, statement=open_sealed(raw, (AttributionStatement,)))


def reindexed(evidence: Evidence, blob: bytes | None = None, **changes: Any) -> Evidence:
    assert evidence.index is not None
    manifest = dataclasses.replace(evidence.index.manifest, **changes)
    sealed = open_sealed(seal(PeerKey.generate(keccak256(b"author")), manifest, SIZE), (IndexManifest,), SIZE)
    index = dataclasses.replace(evidence.index, sealed=sealed, rows=blob or evidence.index.rows)
    return dataclasses.replace(evidence, index=index)


@pytest.fixture(scope="module")
def audits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where level 3 keeps what it made: nothing is trained twice."""
    return tmp_path_factory.mktemp("audits")


def test_an_honest_receipt_passes_every_level(made: tuple[Evidence, Path], audits: Path) -> None:
    evidence, base = made
    findings = [verify_signatures(evidence), verify_integers(evidence), verify_query(evidence, base)]
    findings.append(verify_by_retraining(evidence, Audit(base, audits, 6)))
    assert [(one.level, one.passed) for one in findings] == [(level, True) for level in range(4)], findings
    assert all(one.showed and one.not_shown for one in findings)
    assert "bit for bit" in findings[1].showed[-1]
    assert sum("is its row's gradient" in sentence for sentence in findings[2].showed) == 3
    assert any("reduced: 2 contributors left out, 6 of 9 steps" in s for s in findings[3].showed)
    again = [sentence for sentence in findings[3].showed if "give again: cosine 1.0000" in sentence]
    assert [sentence.split(" is what")[0] for sentence in again] == [
        "the early checkpoint", "what the curvature makes of gradients"
    ]  # fmt: skip
    assert "of orders drawn at random 50% do as well" in findings[3].showed[-1]


def test_a_stopped_level_3_goes_on_where_it_was(
    made: tuple[Evidence, Path], audits: Path, tmp_path: Path
) -> None:
    evidence, base = made
    told: list[tuple[str, int, int]] = []

    def stop(what: str, done: int, total: int) -> None:
        told.append((what, done, total))
        if "(2 of 3)" in what and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify_by_retraining(evidence, Audit(base, tmp_path, 6, stop))
    stages = list(dict.fromkeys(what for what, _, _ in told))
    assert stages[:3] == [
        "the early checkpoint again", "the curvature again", "training on all rows (1 of 3)"
    ]  # fmt: skip
    assert (stages[0], 2, 2) in told
    assert (stages[1], 14, 14) in told
    stopped, told = told, []
    found = verify_by_retraining(evidence, Audit(base, tmp_path, 6, lambda *at: told.append(at)))
    assert found.passed
    whole = [(stages[0], 1, 1), (stages[1], 1, 1), (stages[2], 6, 6)]
    assert told[:3] == whole, "what is whole is not made again"
    again = [at for at in told if "(2 of 3)" in at[0]]
    assert again[:2] == [(stopped[-1][0], 4, 6), (stopped[-1][0], 5, 6)]
    assert found == verify_by_retraining(evidence, Audit(base, audits, 6)), "stopped or not"
    forget_jobs(tmp_path, evidence.datanets[0].shards[0].rows)
    (kept,) = tmp_path.rglob("job.json")
    assert "its leaves fall in October" not in kept.read_text()
    assert not list(tmp_path.rglob("curvature.safetensors"))


def test_level_0_sees_signatures_and_sums(made: tuple[Evidence, Path]) -> None:
    evidence, _ = made
    stored = evidence.stored
    lying = dataclasses.replace(stored.signed.receipt, price=1)
    forged = dataclasses.replace(stored, signed=dataclasses.replace(stored.signed, receipt=lying))
    assert not verify_signatures(dataclasses.replace(evidence, stored=forged)).passed
    other = dataclasses.replace(stored, tokens=stored.tokens[:-1])
    assert not verify_signatures(dataclasses.replace(evidence, stored=other)).passed
    assert not verify_signatures(dataclasses.replace(evidence, credits=evidence.credits[1:])).passed
    assert not verify_signatures(restated(evidence, receipt_hash=bytes(32))).passed
    stranger = restated(evidence, weights=(Weight(Address(b"\xee" * 20), PPM),))
    assert "contributed nothing" in verify_signatures(stranger).showed[-1]
    without = dataclasses.replace(evidence, statement=None, index=None)
    assert "prior weights apply" in verify_signatures(without).showed[-1]
    assert all(check(without).passed for check in (verify_signatures, verify_integers))


def test_level_1_sees_every_unit(made: tuple[Evidence, Path]) -> None:
    evidence, _ = made
    assert evidence.statement is not None
    assert evidence.index is not None
    first, *rest = evidence.statement.record.weights
    moved = (dataclasses.replace(first, ppm=first.ppm - 1), dataclasses.replace(rest[0], ppm=rest[0].ppm + 1))
    assert not verify_integers(restated(evidence, weights=(*moved, *rest[1:]))).passed
    assert not verify_integers(restated(evidence, query=bytes(32))).passed
    assert not verify_integers(restated(evidence, method="other/1")).passed
    assert not verify_integers(restated(evidence, method="prior")).passed
    unnamed = dataclasses.replace(restated(evidence, index=None), index=None)
    assert "must have the manifest's prior weights" in verify_integers(unnamed).showed[-1]
    assert "not that of its adapter" in verify_integers(reindexed(evidence, beacon=b"chosen")).showed[-1]
    one = 4 * evidence.index.manifest.width
    swapped = evidence.index.sums[one:] + evidence.index.sums[:one]
    lying = reindexed(evidence, sums=describe_blob([swapped])[0])
    lying = dataclasses.replace(lying, index=dataclasses.replace(lying.index, sums=swapped))
    assert "not the sum of its rows" in verify_integers(lying).showed[-1]


def test_where_scores_are_not_above_chance_the_priors_must_divide(made: tuple[Evidence, Path]) -> None:
    evidence, _ = made
    assert evidence.manifest is not None
    assert evidence.statement is not None
    priors = prior_weights(evidence.manifest)
    found = measured_as(evidence, PPM)
    coarse = restated(evidence, method=COARSE_METHOD, weights=priors)
    measured = dataclasses.replace(coarse, faithfulness=found)
    assert verify_integers(measured).passed
    assert "not above chance" in verify_integers(measured).showed[-1]
    good = measured_as(evidence, 2 * PPM)
    assert not verify_integers(dataclasses.replace(coarse, faithfulness=good)).passed
    nobody = dataclasses.replace(coarse, faithfulness=None)
    assert not verify_integers(nobody).passed, "nobody measured anything"
    own = restated(measured, weights=evidence.statement.record.weights)
    assert not verify_integers(own).passed
    by_scores = dataclasses.replace(evidence, faithfulness=found)
    assert "applies" in verify_integers(by_scores).showed[-1]


def test_where_nobody_has_measured_the_priors_must_divide(made: tuple[Evidence, Path]) -> None:
    evidence, _ = made
    assert evidence.manifest is not None
    unmeasured = dataclasses.replace(evidence, faithfulness=None)
    assert "'prior-unmeasured' applies" in verify_integers(unmeasured).showed[-1]
    honest = restated(unmeasured, method=UNMEASURED_METHOD, weights=prior_weights(evidence.manifest))
    assert verify_integers(honest).passed
    assert "names no measurement of these scores" in verify_integers(honest).showed[-1]
    of_another = dataclasses.replace(measured_as(evidence, 2 * PPM), index=cid_of(b"another index"))
    assert verify_integers(dataclasses.replace(honest, faithfulness=of_another)).passed
    assert not verify_integers(dataclasses.replace(evidence, faithfulness=of_another)).passed


def measured_as(evidence: Evidence, lds_ppm: int) -> Faithfulness:
    assert evidence.statement is not None
    index = evidence.statement.record.index or cid_of(b"")
    reached = Correlations(lds_ppm, 100_000, PPM, PPM, 100_000)
    assert evidence.index is not None
    method = evidence.index.manifest.method
    return Faithfulness(evidence.statement.record.adapter, index, method, 8, 8, 8, 9, 4, reached)


def test_level_2_sees_another_answers_query_and_forged_rows(made: tuple[Evidence, Path]) -> None:
    evidence, base = made
    assert evidence.index is not None
    other = dataclasses.replace(evidence.stored, tokens=evidence.stored.tokens[::-1])
    found = verify_query(dataclasses.replace(evidence, stored=other), base)
    assert not found.passed
    assert "not this answer's" in found.showed[0]

    size, count = evidence.index.manifest.row_bytes, evidence.index.manifest.row_count
    written = evidence.index.rows
    rows = b"".join(written[at * size : (at + 1) * size] for at in reversed(range(count)))
    forged = verify_query(reindexed(evidence, rows, rows=describe_blob([rows])[0]), base)
    assert sum("not its row's gradient" in sentence for sentence in forged.showed) == 3
    unknown = (keccak256(b"x"),) * count
    assert (
        "in none of the adapter's" in verify_query(reindexed(evidence, row_hashes=unknown), base).showed[-1]
    )


def test_without_an_index_nothing_is_paid_for_what_parts_of_the_prompt_are_said_to_have_done(
    made: tuple[Evidence, Path],
) -> None:
    evidence, _ = made
    assert evidence.manifest is not None
    fish = evidence.datanets[0].shards[1].payee
    claim = Effects(0, (PartEffect("row", keccak256(b"row"), fish, PPM),))
    own = {weight.payee: weight.ppm // 2 for weight in prior_weights(evidence.manifest)}
    shares = own | {fish: own[fish] + PPM // 2}
    weights = tuple(Weight(payee, shares[payee]) for payee in sorted(shares))
    forged = restated(evidence, index=None, method=UNMEASURED_METHOD, effects=claim, weights=weights)
    found = verify_integers(dataclasses.replace(forged, index=None, faithfulness=None))
    assert "must have the manifest's prior weights" in found.showed[-1]


def test_level_1_sees_a_row_in_the_prompt_that_is_paid_to_another_than_who_gave_it(
    made: tuple[Evidence, Path],
) -> None:
    evidence, _ = made
    assert evidence.manifest is not None
    coarse = dataclasses.replace(evidence, faithfulness=measured_as(evidence, PPM))
    tree, fish = (shard.payee for shard in evidence.datanets[0].shards)
    own = {weight.payee: weight.ppm // 2 for weight in prior_weights(evidence.manifest)}

    def claimed(part: bytes, by: Address) -> Evidence:
        effects = Effects(0, (PartEffect("row", part, by, PPM),))
        shares = own | {by: own[by] + PPM // 2}
        weights = tuple(Weight(payee, shares[payee]) for payee in sorted(shares))
        return restated(coarse, method=COARSE_METHOD, effects=effects, weights=weights)

    perch = row_hash(evidence.datanets[0].shards[1].rows[-1])
    assert verify_integers(claimed(perch, fish)).passed
    stolen = verify_integers(claimed(perch, tree))
    assert not stolen.passed
    assert "who gave it" in stolen.showed[-1]
    elsewhere = verify_integers(claimed(keccak256(b"of another Datanet"), tree))
    assert elsewhere.passed
    assert any("the word of who asked" in said for said in elsewhere.showed)


def test_level_2_sees_effects_that_parts_of_the_prompt_did_not_have(made: tuple[Evidence, Path]) -> None:
    from commonlore.peer.attribution.verifying import attributor_of
    from commonlore.worker.attribution.ablation import ablated, measured_effects

    evidence, base = made
    assert evidence.adapter is not None
    part = PromptPart("row", keccak256(b"row"), evidence.manifest.priors[0].payee, cid_of(b"fish"), 0, 0, 8)
    assert evidence.stored.prompt is not None
    prompt = dataclasses.replace(evidence.stored.prompt, parts=(part,))
    shown = dataclasses.replace(evidence, stored=dataclasses.replace(evidence.stored, prompt=prompt))
    seed, output = evidence.stored.receipt_hash, evidence.stored.tokens
    losses = attributor_of(evidence, base).losses(evidence.adapter, ablated(prompt, seed), output)
    measured = measured_effects(prompt, seed, losses)
    assert measured is not None
    honest = verify_query(restated(shown, effects=measured), base)
    assert honest.passed
    assert any("parts computed again agree" in sentence for sentence in honest.showed)
    bought = Effects(0, (PartEffect("row", part.part, part.payee, 9_000_000),))
    forged = verify_query(restated(shown, effects=bought), base)
    assert not forged.passed
    assert any("did not do what is stated" in sentence for sentence in forged.showed)


def test_level_1_says_where_a_projection_could_be_chosen(made: tuple[Evidence, Path]) -> None:
    evidence, _ = made
    assert evidence.adapter is not None
    assert not any("projection" in said for said in verify_integers(evidence).showed if "NOTE" in said)
    unseeded = reindexed(evidence, beacon=b"", seed=projection_seed(evidence.adapter))
    assert "may be chosen" in verify_integers(unseeded).showed[-1]
    without_chain = verify_integers(dataclasses.replace(unseeded, beacon=None))
    assert any("no beacon" in sentence for sentence in without_chain.showed)


def test_level_1_says_what_the_chain_says_of_an_index(made: tuple[Evidence, Path]) -> None:
    evidence, _ = made
    assert evidence.index is not None
    assert evidence.manifest is not None
    index = evidence.index
    assert any("NOTE: the index is not committed" in said for said in verify_integers(evidence).showed)
    trees = build_index_trees(PublishedIndex(index.manifest, index.rows, index.sums))
    committed = trees.commitment(evidence.manifest.author_payee, cid_of(index.sealed.raw), index.manifest)

    def level_1(**changes: Any) -> Finding:
        standing = dataclasses.replace(IndexStanding(committed), **changes)
        return verify_integers(dataclasses.replace(evidence, standing=standing))

    for found, said in (
        (level_1(), "nobody has shown them wrong"),
        (level_1(seconds_left=9), "for 9 s more"),
    ):
        assert found.passed
        assert any("these very numbers on the chain" in each and said in each for each in found.showed)
        assert not any("NOTE" in each for each in found.showed)
    other = dataclasses.replace(committed, running_root=bytes(32))
    for found, said in (
        (level_1(killed="sum does not follow"), "shown wrong on the chain (sum does not follow)"),
        (level_1(commitment=other), "not what its author committed"),
    ):
        assert not found.passed
        assert found.showed[-1].startswith("WRONG: ")
        assert said in found.showed[-1]


def test_level_1_sees_an_index_under_another_block_than_its_adapters(made: tuple[Evidence, Path]) -> None:
    """An author registers late, after it has seen a beacon that suits it: another block then draws."""
    evidence, _ = made
    assert any("drawn by the block" in sentence for sentence in verify_integers(evidence).showed)
    late = dataclasses.replace(evidence, beacon=hashlib.sha256(b"a later block").digest())
    assert "its projection may be chosen" in verify_integers(late).showed[-1]
    never = dataclasses.replace(evidence, beacon=b"")
    assert "not registered" in verify_integers(never).showed[-1]
    with pytest.raises(NotFound, match="the chain is away"):
        verify_integers(dataclasses.replace(evidence, unknown="the chain is away"))


def test_level_1_sees_rows_that_an_author_left_out(made: tuple[Evidence, Path]) -> None:
    evidence, _ = made
    assert evidence.index is not None
    index = evidence.index.manifest
    assert any("of the 8 rows that count" in sentence for sentence in verify_integers(evidence).showed)
    size, first = index.row_bytes, index.contributors[0]
    fewer = dataclasses.replace(first, row_count=first.row_count - 1)
    rows = evidence.index.rows[size:]
    short = reindexed(
        evidence, rows, rows=describe_blob([rows])[0], row_hashes=index.row_hashes[1:],
        row_count=index.row_count - 1, contributors=(fewer, *index.contributors[1:]),
    )  # fmt: skip
    assert "lacks 1 of the 6 rows" in verify_integers(short).showed[-1]
    (datanet,) = evidence.datanets
    grown = dataclasses.replace(datanet.shards[0], rows=(*datanet.shards[0].rows, Row("?", "!", bytes(32))))
    more = dataclasses.replace(datanet, shards=(grown, *datanet.shards[1:]))
    assert "prior weights" in verify_integers(dataclasses.replace(evidence, datanets=(more,))).showed[-1]
    dropped = DroppedRow(index.row_hashes[0], "same", index.row_hashes[1], 1000)
    lying = dataclasses.replace(evidence, selection=RowSelection(RULE, (dropped,)))
    assert "are not those that the rule drops" in verify_integers(lying).showed[-1]
    one_row = DroppedRow(index.row_hashes[0], "noise", index.row_hashes[0], 0)
    lying = dataclasses.replace(evidence, selection=RowSelection(RULE, (one_row,)))
    assert "are not those" in verify_integers(lying).showed[-1], "noise is all of a contributor's rows"


def seconded(evidence: Evidence, listed: BondedList, facts: DrawFacts, **changes: Any) -> Evidence:
    """With a second statement by an account that was drawn from a list."""
    from commonlore.peer.chain import OFFLINE

    owner, session = (AccountKey.from_secret(keccak256(name)) for name in (b"second", b"session"))
    key = PeerKey.generate(keccak256(b"second"))
    assert evidence.statement is not None
    binding = bind(OFFLINE, owner, session, key, 1, 1 << 40)
    drawn = DrawnSecond(binding, next(iter(facts.beacons)), record_cid(listed))
    statement = dataclasses.replace(
        evidence.statement.record, drawn=dataclasses.replace(drawn, **changes) if changes else drawn
    )
    sealed = open_sealed(seal(key, statement), (AttributionStatement,))
    return dataclasses.replace(evidence, seconds=(SecondEvidence(sealed, listed, facts),))


def test_who_scored_second_is_checked_by_what_is_published(made: tuple[Evidence, Path]) -> None:
    evidence, _ = made
    mine = AccountKey.from_secret(keccak256(b"second")).address
    others = [Address(bytes([number]) * 20) for number in (1, 2, 3)]
    listed = BondedList(7, tuple(sorted([mine, *others])))
    facts = DrawFacts(set(listed.accounts), set(listed.accounts), [b"beacon"])
    honest = seconded(evidence, listed, facts)
    assert verify_signatures(honest).passed
    found = verify_integers(honest)
    assert found.passed, found
    assert any("of 4 bonded at block 7 by the beacon's lot" in sentence for sentence in found.showed)

    strangers = BondedList(7, tuple(sorted(others)))
    facts_of_strangers = DrawFacts(set(others), set(others), [b"beacon"])
    unbonded = verify_integers(seconded(evidence, strangers, facts_of_strangers))
    assert "scored second and is not among the 3 bonded" in unbonded.showed[-1]
    crowd = DrawFacts({mine, *others, b"\x09" * 20}, {*others, b"\x09" * 20}, [b"beacon"])
    hidden = verify_integers(seconded(evidence, listed, crowd))
    assert "0x0909" in hidden.showed[-1]
    assert "is left out" in hidden.showed[-1]
    late = verify_integers(seconded(evidence, listed, DrawFacts(set(others), set(others), [b"beacon"])))
    assert "had not bonded at block 7" in late.showed[-1]
    paid_late = dataclasses.replace(facts, beacons=[b"its own epoch's", b"beacon"])
    assert verify_integers(seconded(evidence, listed, paid_late, beacon=b"beacon")).passed
    steered = verify_integers(seconded(evidence, listed, facts, beacon=b"another"))
    assert "another beacon" in steered.showed[-1]
    old = dataclasses.replace(facts, is_stale=True)
    assert "at block 7, long before" in verify_integers(seconded(evidence, listed, old)).showed[-1]
    swapped = verify_integers(seconded(evidence, listed, facts, bonded=cid_of(b"another list")))
    assert "another list" in swapped.showed[-1]

    unnamed = dataclasses.replace(honest.seconds[0], sealed=restated(honest, drawn=None).statement)
    assert not verify_signatures(dataclasses.replace(honest, seconds=(unnamed,))).passed
    borrowed = restated(honest, drawn=honest.seconds[0].sealed.record.drawn).statement
    by_worker = dataclasses.replace(honest.seconds[0], sealed=borrowed)
    assert "another key" in verify_signatures(dataclasses.replace(honest, seconds=(by_worker,))).showed[-1]
    same = dataclasses.replace(honest, worker=dataclasses.replace(honest.worker, owner=mine))
    assert "own worker" in verify_signatures(same).showed[-1]


def with_second(evidence: Evidence, query: bytes, weights: tuple[Weight, ...]) -> Evidence:
    """With both statements naming what was measured, the second by this vector and these weights."""
    both = restated(evidence, faithfulness=cid_of(b"what was measured"))
    listed = BondedList(7, (AccountKey.from_secret(keccak256(b"second")).address,))
    found = seconded(both, listed, DrawFacts(set(listed.accounts), set(listed.accounts), [b"beacon"]))
    (second,) = found.seconds
    changes = {"query": hashlib.sha256(query).digest(), "weights": weights}
    statement = dataclasses.replace(second.sealed.record, **changes)
    sealed = open_sealed(seal(PeerKey.generate(keccak256(b"second")), statement), (AttributionStatement,))
    return dataclasses.replace(found, seconds=(dataclasses.replace(second, sealed=sealed, query=query),))


def test_two_who_disagree_are_told_and_level_2_says_who_is_wrong(made: tuple[Evidence, Path]) -> None:
    evidence, base = made
    assert evidence.index is not None
    assert evidence.statement is not None
    index, own = evidence.index, evidence.statement.record.weights
    agreed = with_second(evidence, index.query, own)
    assert "the two statements are 0 ppm apart (at most 10000)" in verify_integers(agreed).showed
    assert agreed.judged is not None
    assert agreed.judged.basis is Basis.AGREED

    sums = read_sums(index.manifest, index.sums)
    forged = np.sign(sums[1]).astype(np.int8)
    weights = compute_weights(compute_scores(forged, sums), index.manifest.payees)
    assert weights is not None
    disputed = with_second(evidence, forged.tobytes(), weights)
    found = verify_integers(disputed)
    assert found.passed
    assert any(sentence.startswith("DISPUTED") for sentence in found.showed)
    whose = verify_query(disputed, base)
    assert not whose.passed
    (wrong,) = [sentence for sentence in whose.showed if sentence.startswith("WRONG")]
    assert f"the query vector of {disputed.seconds[0].named} is not this answer's" in wrong

    copied = verify_integers(with_second(evidence, forged.tobytes(), own))
    assert "the second statement, of 0x" in copied.showed[-1]
    other = with_second(evidence, index.query, own)
    elsewhere = dataclasses.replace(other, faithfulness=None)
    assert elsewhere.judged is None


def test_a_receipt_of_rows_that_were_taken_back_can_be_checked_as_far_as_that_goes(
    made: tuple[Evidence, Path],
) -> None:
    evidence, base = made
    gone = dataclasses.replace(evidence, datanets=(), withdrawn="1 shards were taken back")
    findings = [verify_integers(gone), verify_query(gone, base)]
    assert [finding.passed for finding in findings] == [True, True]
    assert [sum("taken back" in said for said in each.showed) for each in findings] == [1, 1]
    assert "bit for bit" in findings[0].showed[-1]


def test_level_1_tells_what_an_author_announces_and_a_statement_leaves_out(
    made: tuple[Evidence, Path],
) -> None:
    evidence, _ = made
    assert evidence.manifest is not None
    assert evidence.statement is not None
    statement, priors = evidence.statement.record, prior_weights(evidence.manifest)
    record = AdapterRecord(
        "a/b", statement.adapter, evidence.manifest.base, statement.index, None, 0, 0, 1, 1, cid_of(b"found")
    )
    bare = restated(evidence, method=UNMEASURED_METHOD, weights=priors)
    bare = dataclasses.replace(bare, faithfulness=None, announced=record)
    assert "announces a measurement of this index" in verify_integers(bare).showed[-1]
    unindexed = dataclasses.replace(restated(bare, index=None), index=None)
    assert "announces the index" in verify_integers(unindexed).showed[-1]
    assert verify_integers(unindexed).passed
    wrong = verify_integers(dataclasses.replace(evidence, wrong="the index is not its author's"))
    assert (wrong.passed, wrong.showed) == (False, ("WRONG: the index is not its author's",))


def test_what_a_level_needs_and_is_not_here_is_named(made: tuple[Evidence, Path], tmp_path: Path) -> None:
    evidence, base = made
    unasked = dataclasses.replace(evidence, stored=dataclasses.replace(evidence.stored, prompt=None))
    with pytest.raises(NotFound, match="prompt"):
        verify_query(unasked, base)
    with pytest.raises(NotFound, match="rows of the adapter's Datanets"):
        verify_by_retraining(dataclasses.replace(evidence, datanets=()), Audit(base, tmp_path, 1))


def test_level_3_holds_no_priors_to_retraining(made: tuple[Evidence, Path], audits: Path) -> None:
    """Priors follow the rows' number, whatever retraining says: an honest statement by them must pass."""
    evidence, base = made
    assert evidence.manifest is not None
    coarse = restated(evidence, method=COARSE_METHOD, weights=prior_weights(evidence.manifest))
    found = verify_by_retraining(coarse, Audit(base, audits, 6))
    assert found.passed
    assert "nothing to hold to this" in found.showed[-1]


def test_level_3_of_one_contributor_trains_without_nobody(
    made: tuple[Evidence, Path], tmp_path: Path
) -> None:
    evidence, base = made
    (datanet,) = evidence.datanets
    alone = dataclasses.replace(datanet, shards=datanet.shards[:1])
    found = verify_by_retraining(dataclasses.replace(evidence, datanets=(alone,)), Audit(base, tmp_path, 3))
    assert "one contributor gave every row" in found.showed[-1]
    assert not found.passed, "these rows do not make this checkpoint"
    assert "WRONG: the early checkpoint" in found.showed[0]


def test_level_3_sees_a_checkpoint_and_factors_that_no_training_made(
    made: tuple[Evidence, Path], audits: Path
) -> None:
    evidence, base = made
    assert evidence.early is not None
    assert evidence.curvature is not None
    swapped = dataclasses.replace(evidence, early=evidence.early.with_name("adapter_model.safetensors"))
    found = verify_by_retraining(swapped, Audit(base, audits, 6))
    assert not found.passed
    assert sum("WRONG" in sentence for sentence in found.showed) >= 1


@pytest.mark.parametrize(
    ("spoilt", "says"),
    [("huge", "a gradient is not finite"), ("nan", "a gradient is not finite"),
     ("foreign", "does not fit its base and rank"), ("curvature", "rank is not finite")],
)  # fmt: skip
def test_files_from_which_nothing_can_be_computed_are_refused_by_level_2(
    made: tuple[Evidence, Path], tmp_path: Path, spoilt: str, says: str
) -> None:
    evidence, base = made
    assert evidence.early is not None
    assert evidence.curvature is not None
    path = tmp_path / "spoilt"
    path.write_bytes(spoil(spoilt, evidence.curvature if spoilt == "curvature" else evidence.early))
    changes = {"curvature" if spoilt == "curvature" else "early": path}
    found = verify_query(dataclasses.replace(evidence, **changes), base)
    assert not found.passed
    assert found.showed[-1].startswith("WRONG: ")
    assert says in found.showed[-1]


def spoil(how: str, path: Path) -> bytes:
    """A file of an adapter's as no training leaves it."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load, save

    tensors = load(path.read_bytes())
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    match how:
        case "huge":
            tensors = {
                name: tensor * 1e30 if "lora_B" in name else tensor for name, tensor in tensors.items()
            }
        case "nan":
            tensors = {name: torch.full_like(tensor, torch.nan) for name, tensor in tensors.items()}
        case "foreign":
            tensors = {name: tensor.repeat(2, 1) for name, tensor in tensors.items()}
        case "curvature":
            tensors["rank"][0] = torch.inf
    return save(tensors, metadata=metadata)


def test_levels_that_hold_are_shown_before_evidence_that_does_not(
    made: tuple[Evidence, Path], tmp_path: Path
) -> None:
    evidence, _ = made
    place = Home(tmp_path).create(), Config(), CheckOptions("1", 2, 1)

    def carried_out(lacking: CommonloreError) -> Iterator[Finding]:
        gathered = Gathered((evidence,), 0, lacking)
        return check(*place[:2], gathered, place[2], lambda *_: None)

    refused = list(carried_out(InvalidShard("shard of 'c': the rows are not those that its root commits")))
    assert [(each.level, each.passed) for each in refused] == [(0, True), (1, False)]
    (said,) = refused[1].showed
    assert said.startswith("WRONG: what this level reads is refused: shard of 'c'")
    levels = carried_out(NotFound("the index is nowhere"))
    assert next(levels).passed
    with pytest.raises(NotFound, match="nowhere"):
        next(levels)


def test_where_no_score_is_above_zero_the_priors_divide_by_rule(made: tuple[Evidence, Path]) -> None:
    evidence, _ = made
    assert evidence.index is not None
    assert evidence.manifest is not None
    nothing = bytes(len(evidence.index.query))
    without = dataclasses.replace(evidence, index=dataclasses.replace(evidence.index, query=nothing))
    priors = {"method": PRIOR_METHOD, "weights": prior_weights(evidence.manifest)}
    found = verify_integers(restated(without, query=hashlib.sha256(nothing).digest(), **priors))
    assert found.passed, found
    assert any("nobody's is above zero" in said for said in found.showed)
    assert not verify_integers(restated(evidence, **priors)).passed, "there are scores above zero"


def test_what_others_measured_is_a_note_and_changes_no_verdict(made: tuple[Evidence, Path]) -> None:
    evidence, _ = made
    others = (OtherMeasurement(PeerId("ben"), measured_as(evidence, PPM)),)
    found = verify_integers(dataclasses.replace(evidence, others=others))
    assert found.passed
    (note,) = [said for said in found.showed if said.startswith("NOTE: 1 other measured")]
    assert "no pay changes by it: ben +0.00 ± 0.20 (not above chance), which contradicts" in note
