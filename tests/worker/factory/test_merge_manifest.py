from __future__ import annotations

from dataclasses import replace

import pytest

from commonlore.protocol.attribution.scoring import prior_weights
from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.content.manifests import AdapterManifest, Merge, PriorWeight, Recipe
from commonlore.protocol.content.splits import OPENLEDGER_SPLIT
from commonlore.protocol.encoding.codec import decode, encode, record_cid
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import ConfigError
from commonlore.protocol.ids import Address, cid_of
from commonlore.worker.factory.merge_job import MergeResult, make_plan
from commonlore.worker.factory.merge_manifest import (
    MergePublication,
    Parent,
    StoredMerge,
    common_licence,
    describe_merge,
    mixed_priors,
    union_of_datanets,
)
from commonlore.worker.models.reference import BaseModel

ANN, BEN, CAT = (Address(bytes([n]) * 20) for n in (1, 2, 3))
RECIPE = Recipe("a trainer", 40, 8, 8_000_000, 8, 16, 0, 1, "bf16", "user: {question}")


def parent_of(tiny: BaseModel, name: str, priors: dict[Address, int], weight_ppm: int) -> Parent:
    manifest = AdapterManifest(
        name=name,
        base=tiny.id,
        weights=cid_of(name.encode()),
        weights_size=1,
        rank=8,
        alpha=16,
        targets=("q_proj",),
        template=tiny.manifest.chat_template,
        datanets=(cid_of(b"shared"), cid_of(b"of " + name.encode())),
        recipe=replace(RECIPE, question_template=name),
        early_checkpoint=cid_of(b"early"),
        factors=None,
        split=OPENLEDGER_SPLIT,
        priors=tuple(PriorWeight(payee, ppm) for payee, ppm in priors.items()),
        licence="CC0-1.0",
        author=bytes(32),
        author_payee=ANN,
    )
    return Parent(record_cid(manifest), manifest, weight_ppm)


@pytest.fixture
def parents(tiny: BaseModel) -> list[Parent]:
    first = parent_of(tiny, "icd10", {ANN: 600_000, BEN: 400_000}, 1_400_000)
    return [first, parent_of(tiny, "cwe", {BEN: 1, CAT: PPM - 1}, 600_000)]


def test_a_merge_states_its_parents_weights_method_density_and_seed(
    tiny: BaseModel, parents: list[Parent]
) -> None:
    publication = MergePublication("both", tiny.manifest, OPENLEDGER_SPLIT, "CC0-1.0", b"a" * 32, CAT)
    result = MergeResult(8, ("q_proj", "o_proj"), "fp32", 12_345)
    plan = make_plan("dare_ties", density_ppm=400_000, seed=7)
    manifest = describe_merge(publication, parents, StoredMerge(plan, result, cid_of(b"merged")))
    assert decode(AdapterManifest, encode(manifest)) == manifest
    ids = tuple(parent.adapter for parent in parents)
    weighted = (AdapterWeight(ids[0], 1_400_000), AdapterWeight(ids[1], 600_000))
    assert (manifest.parents, manifest.merge) == (ids, Merge("dare_ties", weighted, 400_000, 7))
    assert (manifest.rank, manifest.alpha, manifest.targets) == (8, 8, ("o_proj", "q_proj"))
    assert (manifest.early_checkpoint, manifest.author_payee, manifest.split) == (None, CAT, OPENLEDGER_SPLIT)
    assert manifest.datanets == tuple(cid_of(name) for name in (b"shared", b"of icd10", b"of cwe"))
    assert (manifest.recipe.steps, manifest.recipe.seed, manifest.recipe.question_template) == (0, 7, "icd10")


def test_priors_are_the_parents_mixed_by_weight_to_the_last_part(parents: list[Parent]) -> None:
    mixed = {prior.payee: prior.ppm for prior in mixed_priors(parents)}
    assert mixed == {ANN: 420_000, BEN: 280_000, CAT: 300_000}  # ben's 0.3 of one part is cat's by remainder
    assert sum(mixed.values()) == PPM
    thirds = [replace(parents[0], weight_ppm=1), replace(parents[1], weight_ppm=2)]
    assert sum(prior.ppm for prior in mixed_priors(thirds)) == PPM


def test_what_cannot_be_described(parents: list[Parent]) -> None:
    first, second = parents
    many = replace(second.manifest, datanets=tuple(cid_of(bytes([n])) for n in range(63)))
    with pytest.raises(ConfigError, match="rests on 65 Datanets; at most 64"):
        union_of_datanets([first, replace(second, manifest=many)])
    crowd = [PriorWeight(Address(n.to_bytes(20, "big")), 244) for n in range(1, 4_096)]
    last = PriorWeight(Address(b"\xff" * 20), PPM - 4_095 * 244)
    crowded = replace(second.manifest, priors=(*crowd, last))
    with pytest.raises(ConfigError, match="has 4098 contributors; at most 4096"):
        mixed_priors([first, replace(second, manifest=crowded)])
    assert common_licence(parents) == "CC0-1.0"
    other = replace(second, manifest=replace(second.manifest, licence="MIT"))
    with pytest.raises(ConfigError, match=r"different licences \(CC0-1.0; MIT\): name the merge's own"):
        common_licence([first, other])


def test_an_adapter_that_was_trained_has_the_id_that_it_always_had(parents: list[Parent]) -> None:
    """A field that is absent is left out: manifests from before merges keep their bytes."""
    trained = parents[0].manifest
    assert trained.merge is None
    assert b"merge" not in encode(trained)
    assert prior_weights(trained)
