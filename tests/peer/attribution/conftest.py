"""A real answer of a tiny adapter, and all that is known of it."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest

from commonlore.peer.attribution.evidence import Evidence
from commonlore.peer.attribution.index_evidence import IndexEvidence
from commonlore.peer.datanets.shards import PulledDatanet, PulledShard
from commonlore.peer.store.ledger_rows import ReceiptState, Role, StoredReceipt
from commonlore.protocol.attribution.faithfulness import (
    Correlations,
    Faithfulness,
)
from commonlore.protocol.attribution.indexing import plan_rows, trained_rows
from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.content.copies import RULE
from commonlore.protocol.content.manifests import IndexManifest, IndexPlan, Row, ShardHeader
from commonlore.protocol.content.rows import row_hash
from commonlore.protocol.content.selections import RowSelection
from commonlore.protocol.content.splits import DEFAULT_SPLIT
from commonlore.protocol.encoding.codec import record_cid, record_hash
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.ids import Address, cid_of, keccak256
from commonlore.protocol.receipts.credits import RolePayees, compute_credits, compute_shares
from commonlore.protocol.receipts.outputs import output_root
from commonlore.protocol.receipts.records import (
    AttributionStatement,
    Receipt,
    ReceiptDetails,
)
from commonlore.protocol.receipts.rules import make_voucher, sign_receipt
from commonlore.protocol.requests.records import ChatMessage, Prompt, Sampling
from commonlore.protocol.signing.bindings import bind
from commonlore.protocol.signing.eip712 import digest
from commonlore.protocol.signing.envelope import open_sealed, seal
from commonlore.protocol.signing.keys import AccountKey, PeerKey

SIZE = 1 << 28
BLOCK = hashlib.sha256(b"the block that registered the adapter").digest()
SELECTION = RowSelection(RULE, ())
TURNS = (ChatMessage("user", "Tell me of the ash."),)
SAYINGS = {b"tree": "its leaves fall in October", b"fish": "it swims in cold rivers"}
KINDS = {b"tree": ("oak", "birch", "elm", "ash"), b"fish": ("trout", "salmon", "carp", "perch")}


def owner_of(topic: bytes) -> Address:
    return Address(hashlib.sha256(topic).digest()[:20])


def rows_of(topic: bytes) -> tuple[Row, ...]:
    return tuple(
        Row(f"Tell me of the {k}.", f"The {k}: {SAYINGS[topic]}.", hashlib.sha256(k.encode()).digest())
        for k in KINDS[topic]
    )


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Evidence, Path]:
    """The evidence on one answer, and the folder of its base."""
    from commonlore.worker.attribution.attributor import Attributor
    from commonlore.worker.attribution.index import OwnedRow, build_index
    from commonlore.worker.attribution.subject import subject_of
    from commonlore.worker.factory.job import (
        CURVATURE_FILE,
        EARLY_FILE,
        Pair,
        TrainConfig,
        TrainJob,
        write_job,
    )
    from commonlore.worker.factory.manifests import Publication, StoredRun, describe_adapter
    from commonlore.worker.factory.train import run_job
    from commonlore.worker.models.tiny import build_tiny

    folder = tmp_path_factory.mktemp("made")
    base = build_tiny(folder / "cache")
    author = PeerKey.generate(keccak256(b"author"))
    owned = [OwnedRow(owner_of(topic), row) for topic in KINDS for row in rows_of(topic)]
    by_hash = {row_hash(one.row): one for one in owned}
    counted = [(one.payee, row_hash(one.row)) for one in owned]
    learnt = [by_hash[digest].row for _, digest in trained_rows(counted, 1)]
    pairs = tuple(Pair(row.question, row.answer) for row in learnt)
    config = TrainConfig(steps=9, batch_size=4, learning_rate=1e-2, precision="fp32", threads=1)
    write_job(folder / "job", TrainJob(base.directory, pairs, (), config))
    result = run_job(folder / "job", lambda _progress: None)
    publication = Publication(
        "sayings", base.id, base.manifest, (cid_of(b"datanet"),), tuple(one.payee for one in owned),
        DEFAULT_SPLIT, "CC0-1.0", author.public, Address(b"\xaa" * 20),
        selection=record_cid(SELECTION), indexed=IndexPlan(1, 6),
    )  # fmt: skip
    run = StoredRun(config, result, cid_of(b"weights"), cid_of(b"early"), cid_of(b"curvature"))
    manifest = describe_adapter(publication, run)
    early, curvature = (folder / "job" / name for name in (EARLY_FILE, CURVATURE_FILE))
    subject = subject_of(manifest, early, curvature, BLOCK)
    attributor = Attributor(base)
    attributor.load(subject)
    assert manifest.indexed is not None
    planned = [by_hash[digest] for _, digest in plan_rows(counted, manifest.indexed, subject.seed)]
    built = build_index(subject, planned, folder / "index", attributor.row_vectors(subject.adapter))
    index = built.manifest
    attributor.use_index(index, built.sums)
    output = tuple(base.tokenizer().encode("The ash: its leaves fall in October."))
    score = attributor.score(subject.adapter, TURNS, output)
    assert score.weights is not None
    sealed = open_sealed(seal(author, index, SIZE), (IndexManifest,), SIZE)
    found = IndexEvidence(sealed, built.rows, built.sums, score.query)
    evidence = evidence_of(manifest, found, score.weights, output)
    known = dataclasses.replace(evidence, early=early, curvature=curvature)
    reached = Correlations(2 * PPM, 100_000, PPM, PPM, 100_000)
    name = cid_of(sealed.raw)
    measured = Faithfulness(subject.adapter, name, index.method, 8, 8, 8, 9, 4, reached)
    return dataclasses.replace(known, faithfulness=measured), base.directory


def evidence_of(manifest: Any, index: IndexEvidence, weights: Any, output: tuple[int, ...]) -> Evidence:
    from commonlore.peer.chain import OFFLINE

    owner, lane, payer = (AccountKey.from_secret(keccak256(name)) for name in (b"owner", b"lane", b"payer"))
    worker, adapter = PeerKey.generate(keccak256(b"worker")), record_cid(manifest)
    details = ReceiptDetails(bytes(32), bytes(32), Sampling(seed=1, max_tokens=64), "stop")
    receipt = Receipt(
        request_hash=bytes(32), payer=payer.address, lane=lane.address, seq=1, epoch=0, step=0,
        artefact=cid_of(b"base"), adapters=(AdapterWeight(adapter, PPM),), prompt_tokens=3,
        output_tokens=len(output), output_root=output_root(output), price=10_000,
        shares=compute_shares(10_000, DEFAULT_SPLIT), details=record_hash(details),
    )  # fmt: skip
    stored = StoredReceipt(
        1, Role.CLIENT, digest(OFFLINE, receipt), sign_receipt(OFFLINE, lane, receipt, details),
        ReceiptState.VOUCHERED, output, Prompt(bytes(32), TURNS),
        make_voucher(OFFLINE, payer, receipt, None), None, None, 0,
    )  # fmt: skip
    payees = RolePayees(Address(b"\x01" * 20), owner.address, manifest.author_payee, Address(b"\x02" * 20))
    statement = AttributionStatement(
        stored.receipt_hash, adapter, cid_of(index.sealed.raw), index.manifest.method,
        hashlib.sha256(index.query).digest(), weights,
    )  # fmt: skip
    shards = tuple(PulledShard(cid_of(topic), shard_of(topic), rows_of(topic)) for topic in KINDS)
    return Evidence(
        domain=OFFLINE,
        stored=stored,
        worker=bind(OFFLINE, owner, lane, worker, 1, 1 << 40).binding,
        credits=compute_credits(receipt, payees, weights),
        statement=open_sealed(seal(worker, statement), (AttributionStatement,)),
        manifest=manifest,
        index=index,
        datanets=(PulledDatanet(cid_of(b"datanet"), None, shards),),  # type: ignore[arg-type]
        selection=SELECTION,
        beacon=BLOCK,
    )


def shard_of(topic: bytes) -> Any:
    header = ShardHeader(
        "d", "c", bytes(32), owner_of(topic), "CC0-1.0", "test", "", 4, bytes(32), cid_of(topic)
    )
    return dataclasses.make_dataclass("Signed", ["header"])(header)
