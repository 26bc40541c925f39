from __future__ import annotations

from dataclasses import replace

from commonlore.protocol.attribution.scoring import prior_weights
from commonlore.protocol.content.manifests import AdapterManifest
from commonlore.protocol.content.splits import DEFAULT_SPLIT
from commonlore.protocol.encoding.codec import decode, encode, record_cid, record_hash
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.ids import Address, cid_of
from commonlore.worker.factory.job import TrainConfig, TrainResult
from commonlore.worker.factory.manifests import (
    Announced,
    Publication,
    StoredRun,
    announce_adapter,
    describe_adapter,
    describe_evaluation,
)
from commonlore.worker.models.reference import BaseModel

ANN, BEN = Address(b"\x01" * 20), Address(b"\x02" * 20)
RESULT = TrainResult(
    digest="",
    steps=40,
    early_step=13,
    rows=4,
    heldout=2,
    heldout_loss_before=4.6,
    heldout_loss_after=1.6000004,
    training_loss_before=4.5,
    training_loss_after=0.9,
    seconds=80.0,
    weights_size=9_800_000,
    weights_sha256="",
    early_sha256="",
)


def describe(tiny: BaseModel) -> AdapterManifest:
    publication = Publication(
        name="icd10",
        base=tiny.id,
        base_manifest=tiny.manifest,
        datanets=(cid_of(b"datanet"),),
        payees=(BEN, ANN, ANN, ANN),
        split=DEFAULT_SPLIT,
        licence="CC0",
        author=bytes(32),
        author_payee=BEN,
    )
    run = StoredRun(TrainConfig(learning_rate=0.008), RESULT, cid_of(b"weights"), cid_of(b"early"))
    return describe_adapter(publication, run)


def test_a_manifest_states_the_run_and_pays_by_rows_where_nothing_is_known(tiny: BaseModel) -> None:
    manifest = describe(tiny)
    assert decode(AdapterManifest, encode(manifest)) == manifest
    assert manifest.recipe.learning_rate_ppb == 8_000_000
    assert manifest.early_checkpoint == cid_of(b"early")
    assert manifest.template == tiny.manifest.chat_template
    weights = {weight.payee: weight.ppm for weight in prior_weights(manifest)}
    assert weights == {ANN: 3 * PPM // 4, BEN: PPM // 4}


def test_nothing_is_stated_where_nothing_was_held_out(tiny: BaseModel) -> None:
    manifest = describe(tiny)
    adapter = record_cid(manifest)
    unmeasured = replace(RESULT, heldout=0, heldout_loss_before=None, heldout_loss_after=None)
    assert not unmeasured.improved
    evaluation = describe_evaluation(adapter, unmeasured)
    assert evaluation is None
    record = announce_adapter("ann/icd10", manifest, Announced(adapter, None, evaluation), (7, 1_000))
    assert (record.evaluation, record.loss_before_micro, record.loss_after_micro) == (None, 0, 0)


def test_an_evaluation_stands_outside_and_is_announced_by_its_hash(tiny: BaseModel) -> None:
    manifest = describe(tiny)
    adapter = record_cid(manifest)
    evaluation = describe_evaluation(adapter, RESULT)
    assert (evaluation.loss_before_micro, evaluation.loss_after_micro) == (4_600_000, 1_600_000)
    record = announce_adapter("ann/icd10", manifest, Announced(adapter, None, evaluation), (7, 1_000))
    assert (record.adapter, record.base, record.seq) == (adapter, tiny.id, 7)
    assert record.evaluation == record_hash(evaluation)
