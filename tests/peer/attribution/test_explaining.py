"""Explanations of receipts: what stands out, what is shared, what is missing; and their picture."""

import hashlib
from dataclasses import astuple, make_dataclass, replace

import numpy as np
import pytest

from commonlore.peer.attribution.evidence import Evidence
from commonlore.peer.attribution.explain_plot import draw
from commonlore.peer.attribution.explaining import explain
from commonlore.peer.attribution.explaining_parts import explain_parts
from commonlore.peer.attribution.findings import Finding
from commonlore.peer.attribution.index_evidence import DifferenceEvidence, IndexEvidence
from commonlore.peer.attribution.receipt_check import merge_findings
from commonlore.peer.chain import OFFLINE
from commonlore.peer.datanets.shards import PulledDatanet, PulledShard
from commonlore.peer.store.ledger_rows import ReceiptState, Role, StoredReceipt
from commonlore.protocol.attribution.faithfulness import (
    COARSE_METHOD,
    UNMEASURED_METHOD,
    Correlations,
    Faithfulness,
)
from commonlore.protocol.attribution.scoring import sum_rows, write_sums
from commonlore.protocol.attribution.written_rows import write_row
from commonlore.protocol.content.blob_names import describe_blob
from commonlore.protocol.content.manifests import (
    AdapterManifest,
    IndexedContributor,
    IndexManifest,
    PriorWeight,
    Recipe,
    Row,
    ShardHeader,
)
from commonlore.protocol.content.rows import row_hash
from commonlore.protocol.content.splits import DEFAULT_SPLIT
from commonlore.protocol.encoding.codec import record_cid, record_hash
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.encoding.merkle import MerkleTree
from commonlore.protocol.errors import ConfigError
from commonlore.protocol.ids import Address, PeerId, cid_of
from commonlore.protocol.receipts.credits import compute_shares
from commonlore.protocol.receipts.parts import ReceiptPart
from commonlore.protocol.receipts.records import (
    AttributionStatement,
    Credit,
    Effects,
    PartEffect,
    Receipt,
    ReceiptDetails,
    Shares,
    SignedReceipt,
    Weight,
)
from commonlore.protocol.requests.prompt_parts import show_rows
from commonlore.protocol.requests.records import ChatMessage, Prompt, Sampling
from commonlore.protocol.requests.tools import ToolCall, calls_turn, tool_parts
from commonlore.protocol.signing.envelope import Sealed
from commonlore.worker.attribution.index import leaf_of
from commonlore.worker.attribution.remainder import Remainder, take_out, taken_sums

ANA, BEN = Address(b"a" * 20), Address(b"b" * 20)
MANIFEST = AdapterManifest(
    "icd", cid_of(b"base"), cid_of(b"weights"), 9, 8, 16, ("q_proj",), bytes(32), (cid_of(b"d"),),
    Recipe("t", 1, 1, 1, 8, 16, 0, 1, "bf16", "q"), None, None, DEFAULT_SPLIT,
    (PriorWeight(ANA, 400_000), PriorWeight(BEN, 600_000)), "CC0-1.0", bytes(32), ANA,
)  # fmt: skip
ADAPTER, INDEX, MEASURED, WIDTH = record_cid(MANIFEST), cid_of(b"index"), cid_of(b"measured"), 64
ROWS = {
    ANA: (
        Row("Which?", "amnesia of the first kind", b"\x01" * 32),
        Row("And?", "it is vertigo", b"\x02" * 32),
    ),
    BEN: (Row("$x$ or \ue000?", "quite another thing", b"\x03" * 32),),
}
ANSWER = "I think that it is amnesia of the first kind."
TOLD = ("x", row_hash(ROWS[BEN][0]), BEN, cid_of(b"shard"))
SHOWN = show_rows((ChatMessage("user", "?"),), "Passages:", [TOLD])


def sealed(record):
    return Sealed(record, b"k" * 32, PeerId("author"), b"")


def shard_of(payee):
    name = "ana" if payee == ANA else "ben"
    header = ShardHeader("codes", name, bytes(32), payee, "CC0-1.0", "", "", 1, bytes(32), cid_of(payee))
    return PulledShard(cid_of(payee), make_dataclass("Signed", ["header"])(header), ROWS[payee])


@pytest.fixture
def evidence():
    """Ana's first row points where the answer does, Ben's row away from it."""
    vectors = np.outer((60, 8, -20), np.ones(WIDTH)).astype(np.int8)
    blob, query = b"".join(map(write_row, vectors)), np.full(WIDTH, 50, np.int8).tobytes()
    hashes = tuple(row_hash(row) for payee in (ANA, BEN) for row in ROWS[payee])
    sums = write_sums([sum_rows(vectors[:2]), sum_rows(vectors[2:])])
    contributors = (IndexedContributor(ANA, 2), IndexedContributor(BEN, 1))
    rows, named = (describe_blob([each])[0] for each in (blob, sums))
    index = IndexManifest(
        ADAPTER, "m", WIDTH, bytes(32), 3, rows, bytes(32), hashes, contributors, named
    )  # fmt: skip
    weights = (Weight(ANA, 750_000), Weight(BEN, 250_000))
    digest = hashlib.sha256(query).digest()
    statement = AttributionStatement(bytes(32), ADAPTER, INDEX, "m", digest, weights, faithfulness=MEASURED)
    details = ReceiptDetails(bytes(32), bytes(32), Sampling(1, 9), "stop", (row_hash(ROWS[BEN][0]),))
    receipt = Receipt(
        bytes(32), ANA, BEN, 1, 0, 0, ADAPTER, (), 3, 4, bytes(32), 1_000,
        compute_shares(1_000, DEFAULT_SPLIT), record_hash(details),
    )  # fmt: skip
    stored = StoredReceipt(
        1, Role.CLIENT, bytes(32), SignedReceipt(receipt, bytes(65), details), ReceiptState.ISSUED, (1, 2),
        Prompt(bytes(32), SHOWN[0], parts=SHOWN[1]), None, None, None, 0,
    )  # fmt: skip
    credits = (Credit(ANA, "contributor", 300), Credit(BEN, "contributor", 100), Credit(ANA, "author", 150))
    return Evidence(
        OFFLINE, stored, None, credits, sealed(statement), MANIFEST,
        IndexEvidence(sealed(index), blob, sums, query),
        datanets=(PulledDatanet(cid_of(b"d"), None, (shard_of(ANA), shard_of(BEN))),),
    )  # fmt: skip


def test_contributors_are_named_with_what_they_are_paid(evidence):
    found = explain(evidence, ANSWER)
    assert [(p.channel, p.name, p.ppm, p.amount) for p in found.contributors] == [
        ("adapter", "ana", 750_000, 300),
        ("adapter", "ben", 250_000, 100),
    ]
    assert (found.method, found.missing) == ("m", ())
    assert "not on this machine" in found.confidence


def test_rows_stand_out_in_the_order_of_their_scores(evidence):
    scores = np.array([60, 8, -20])
    rows = explain(evidence, ANSWER).rows
    assert [(row.name, row.answer) for row in rows] == [("ana", "amnesia of the first kind")]
    assert rows[0].sigma == round((scores[0] - scores.mean()) / scores.std(), 2), "others do not stand out"


def test_spans_and_rows_of_the_prompt_are_evidence(evidence):
    found = explain(evidence, ANSWER)
    [span] = found.spans
    assert (span.text, span.places, span.name) == ("amnesia of the first kind", 1, "ana")
    assert span.row == row_hash(ROWS[ANA][0])
    [shown] = found.prompt_rows
    assert (shown.name, shown.payee, shown.answer) == ("ben", BEN, "quite another thing")


def withdrawn_of(evidence, payee):
    """After one contributor took its rows back."""
    index, blob = evidence.index.manifest, evidence.index.rows
    size = index.row_bytes
    leaves = [leaf_of(digest, blob[n * size : (n + 1) * size]) for n, digest in enumerate(index.row_hashes)]
    index = replace(index, rows_root=MerkleTree(leaves).root)
    positions = [at for at, owner in enumerate(index.owners) if owner == payee]
    left = take_out(index, Remainder({}, blob), positions)
    difference = DifferenceEvidence(None, left, taken_sums(index, left, evidence.index.sums))
    (datanet,) = evidence.datanets
    staying = tuple(shard for shard in datanet.shards if shard.payee != payee)
    found = replace(evidence.index, sealed=sealed(index), rows=None, difference=difference)
    return replace(evidence, index=found, datanets=(replace(datanet, shards=staying),), withdrawn="1 shard")


@pytest.mark.parametrize("payee", [ANA, BEN])
def test_no_row_that_was_withdrawn_is_evidence_any_more(evidence, payee):
    gone = withdrawn_of(evidence, payee)
    found = explain(gone, ANSWER)
    shown = repr(astuple(found))
    assert not any(text in shown for row in ROWS[payee] for text in (row.question, row.answer))
    hashes = {row_hash(row) for row in ROWS[payee]}
    assert hashes.isdisjoint(row.row for row in found.rows)
    assert [part.amount for part in found.contributors] == [300, 100], "what was paid stays paid"
    if payee == ANA:
        assert (found.rows, found.spans) == ((), ())
        assert [row.answer for row in found.prompt_rows] == ["quite another thing"]
    else:
        assert [row.name for row in found.rows] == ["ana"]
        assert [span.name for span in found.spans] == ["ana"]
        assert [(row.row, row.question, row.answer) for row in found.prompt_rows] == [(*hashes, "", "")]
    unknown = replace(gone, index=replace(gone.index, difference=None))
    assert explain(unknown, ANSWER).rows == ()


def test_channels_are_told_apart(evidence):
    effects = Effects(3_000_000, (PartEffect("row", row_hash(ROWS[BEN][0]), BEN, 1_000_000),))
    own = explain(evidence, ANSWER).contributors
    assert [part.channel for part in own] == ["adapter", "adapter"]
    statement = replace(evidence.statement.record, effects=effects)
    found = explain(replace(evidence, statement=sealed(statement)), ANSWER)
    by_channel = {part.channel: part for part in found.contributors}
    assert by_channel["row"].ppm == 250_000
    assert by_channel["adapter"].payee == ANA  # influence says Ana alone; the prompt's row is Ben's
    assert [row.nats for row in found.prompt_rows] == [1.0]
    elsewhere = explain(replace(evidence, statement=sealed(statement), index=None), ANSWER)
    assert {part.channel for part in elsewhere.contributors} == {"adapter"}


def test_what_is_not_at_hand_is_named(evidence):
    bare = replace(evidence, datanets=())
    found = explain(bare, None, ["the index is elsewhere"])
    assert [row.answer for row in found.rows] == [""]
    assert (found.spans, found.missing[0]) == ((), "the index is elsewhere")
    assert "tokenizer" in found.missing[-1]
    prior = explain(replace(bare, statement=None, index=None), ANSWER)
    assert prior.method == "prior"
    assert [(p.ppm, p.amount) for p in prior.contributors] == [(600_000, 100), (400_000, 300)]
    nobody = explain(replace(bare, manifest=None, statement=None, index=None), ANSWER)
    assert (nobody.method, nobody.contributors, nobody.missing) == ("none", (), ())


def measured_as(lds):
    reached = Correlations(lds + 1_000_000, 20_000, 1_050_000, 1_000_000, 50_000)
    return Faithfulness(ADAPTER, INDEX, "m", 40, 36, 240, 40, 8, reached)


def test_confidence_is_the_measured_faithfulness(evidence):
    told = explain(replace(evidence, faithfulness=measured_as(880_000)), ANSWER).confidence
    assert "+0.88 ± 0.04" in told
    assert "learnt wrong answers +0.00 ± 0.10" in told
    priors = (Weight(ANA, 400_000), Weight(BEN, 600_000))
    coarse = sealed(replace(evidence.statement.record, method=COARSE_METHOD, weights=priors))
    chance = explain(replace(evidence, faithfulness=measured_as(10_000), statement=coarse), ANSWER)
    assert "not above chance" in chance.confidence
    assert chance.method == COARSE_METHOD


def test_a_statement_that_counts_for_nothing_is_not_shown_as_what_pays(evidence):
    by_chance = replace(evidence, faithfulness=measured_as(10_000))
    record = evidence.statement.record
    unnamed = replace(evidence, statement=sealed(replace(record, faithfulness=None)))
    taken = replace(record, method=UNMEASURED_METHOD, index=None)
    unindexed = replace(evidence, statement=sealed(taken), index=None)
    for forged in (by_chance, unnamed, unindexed):
        found = explain(forged, ANSWER)
        assert {(part.payee, part.ppm) for part in found.contributors} == {(ANA, 400_000), (BEN, 600_000)}
        assert found.method == "prior"
        assert "does not count" in found.confidence


def test_confidence_is_named_where_nothing_was_measured(evidence):
    stated = evidence.statement.record
    priors = (Weight(ANA, 400_000), Weight(BEN, 600_000))
    unmeasured = replace(stated, method=UNMEASURED_METHOD, weights=priors, faithfulness=None)
    unmeasured = replace(evidence, statement=sealed(unmeasured))
    assert "names no measurement" in explain(unmeasured, ANSWER).confidence
    assert "not on this machine" in explain(evidence, ANSWER).confidence


def test_where_what_a_statement_names_is_refused_shares_are_those_that_are_paid(evidence):
    """The priors pay then, whatever the statement says."""
    paid = (Credit(ANA, "contributor", 160), Credit(BEN, "contributor", 240))
    refused = replace(evidence, credits=paid, index=None, wrong="the index is not its author's")
    found = explain(refused, ANSWER)
    shown = [(part.payee, part.ppm, part.amount) for part in found.contributors]
    assert shown == [(BEN, 600_000, 240), (ANA, 400_000, 160)]
    assert found.method == "prior"
    assert "the index is not its author's; the manifest's prior weights divide" in found.confidence


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_picture_is_drawn_and_the_same_again(evidence, tmp_path, suffix):
    paths = [tmp_path / f"{n}{suffix}" for n in range(2)]
    for path in paths:
        draw(explain(evidence, ANSWER), "0x" + "ab" * 32, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert len(paths[0].read_bytes()) > 5_000
    draw(explain(replace(evidence, manifest=None, statement=None, index=None), None), "0x00", paths[0])
    with pytest.raises(ConfigError, match="neither"):
        draw(explain(evidence, ANSWER), "0x00", tmp_path / "picture.pdf")


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_picture_reads_no_stranger_s_text_as_a_formula(evidence, tmp_path, suffix):
    found = explain(evidence, ANSWER)
    names = [replace(part, name="$$") for part in found.contributors]
    rows = [replace(row, question="$\\frac{1}{$ $$", name="<b>\x1b[2J") for row in found.rows]
    hostile = replace(found, method="$$", confidence="$\\frac{$", contributors=names, rows=rows)
    draw(hostile, "0x00", tmp_path / f"picture{suffix}")


# ---- several adapters


def test_an_answer_by_two_adapters_is_explained_as_a_whole(evidence):
    """Weights are of the whole answer; what each is paid is its own adapter's credits alone."""
    lighter = replace(evidence.manifest, name="lighter", priors=(PriorWeight(BEN, PPM),))
    credits = (
        Credit(ANA, "contributor", 210, 0), Credit(BEN, "contributor", 70, 0),
        Credit(BEN, "contributor", 120, 1),
    )  # fmt: skip
    heavy = replace(evidence, credits=credits, part=part_of_weight(0, 700_000))
    bare = {"statement": None, "index": None}
    light = replace(evidence, manifest=lighter, credits=credits, part=part_of_weight(1, 300_000), **bare)
    found = explain_parts((heavy, light), ANSWER, ["a row"])
    assert [(part.payee, part.adapter, part.ppm, part.amount) for part in found.contributors] == [
        (ANA, heavy.adapter, 525_000, 210),
        (BEN, light.adapter, 300_000, 120),
        (BEN, heavy.adapter, 175_000, 70),
    ]
    assert found.method == "m, prior"
    assert f"{light.adapter} (30.0%): no statement" in found.confidence
    assert {row.adapter for row in found.rows} == {heavy.adapter}
    assert found.spans == explain(heavy, ANSWER).spans
    assert found.missing == ("a row",)
    assert explain_parts((evidence,), ANSWER) == explain(evidence, ANSWER)


def part_of_weight(number, weight_ppm):
    return ReceiptPart(number, ADAPTER, weight_ppm, Shares(0, 0, 0, 0, 0))


def test_what_a_prompt_s_row_did_is_the_mean_over_adapters(evidence):
    digest = row_hash(ROWS[BEN][0])
    stated = []
    for number, (weight, micro) in enumerate(((700_000, 1_000_000), (300_000, 0))):
        effects = Effects(500, (PartEffect("row", digest, BEN, micro),))
        record = replace(evidence.statement.record, effects=effects)
        stated.append(replace(evidence, statement=sealed(record), part=part_of_weight(number, weight)))
    (row,) = explain_parts(stated, ANSWER).prompt_rows
    assert row.nats == 0.7
    without = [stated[0], replace(stated[1], statement=None)]
    assert explain_parts(without, ANSWER).prompt_rows[0].nats == 1.0, "of those that measured it"


def test_findings_on_two_adapters_are_one():
    both = [
        ("one", Finding(1, True, ("signed", "sums of one"), ("that",))),
        ("two", Finding(1, False, ("signed", "WRONG: sums"), ("that", "this"))),
    ]
    assert merge_findings(both) == Finding(
        1, False, ("signed", "adapter one: sums of one", "adapter two: WRONG: sums"), ("that", "this")
    )
    assert merge_findings(both[:1]) == both[0][1]


def test_what_tools_gave_back_is_shown_by_call_and_result(evidence):
    called = ToolCall("weather", '{"city": "Bern"}')
    turns = (ChatMessage("user", "?"), calls_turn([called]), ChatMessage("tool", "31"))
    (part,) = parts = tool_parts(turns)
    stored = replace(
        evidence.stored,
        prompt=Prompt(bytes(32), turns, parts=parts),
        signed=replace(
            evidence.stored.signed,
            details=replace(evidence.stored.signed.details, retrieved_rows=(), tool_calls=(part.part,)),
        ),
    )
    effects = Effects(500, (PartEffect("tool", part.part, Address(bytes(20)), 250_000),))
    statement = replace(evidence.statement.record, effects=effects)
    shown = replace(evidence, stored=stored, statement=sealed(statement))
    (tool,) = explain(shown, ANSWER).tools
    assert (tool.part, tool.name, tool.arguments, tool.result) == (part.part, *astuple(called), "31")
    assert tool.nats == 0.25
    assert {part.channel for part in explain(shown, ANSWER).contributors} == {"adapter"}, "recorded, not paid"
    (unknown,) = explain(replace(shown, stored=replace(stored, prompt=None)), ANSWER).tools
    assert (unknown.part, unknown.name, unknown.result) == (part.part, "", "")
