"""From a finished merge to the manifest that publishes it: pure, given the names of the stored blobs.

Rules of this file:
- Parents and weights, method, density and seed stand in the manifest: whoever holds the parents' files can
  merge again.
- Contributors are those of the parents. Prior weights are the parents', mixed by the weights of the merge;
  the Datanets are all of theirs. The author and its share are the publisher's, as of any adapter.
- There is no early checkpoint: no training run passed through one. So there is no index either, and the
  priors divide what answers earn for contributors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from ...protocol.attribution.scoring import mix_priors
from ...protocol.content.compositions import AdapterWeight
from ...protocol.content.manifests import AdapterManifest, BaseManifest, Merge, PriorWeight, Recipe, Split
from ...protocol.errors import ConfigError
from ...protocol.ids import Address, Cid
from .merge_job import MergePlan, MergeResult

MAX_DATANETS = 64
MAX_PRIORS = 4_096


@dataclass(frozen=True, slots=True)
class Parent:
    """An adapter that goes into a merge, with its weight there."""

    adapter: Cid
    manifest: AdapterManifest
    weight_ppm: int


@dataclass(frozen=True, slots=True)
class MergePublication:
    """What an author decides about a merged adapter."""

    name: str
    base_manifest: BaseManifest
    split: Split
    licence: str
    author: bytes
    author_payee: Address


@dataclass(frozen=True, slots=True)
class StoredMerge:
    """A finished merge whose safetensors are stored under the CID `weights`."""

    plan: MergePlan
    result: MergeResult
    weights: Cid


def describe_merge(
    publication: MergePublication, parents: Sequence[Parent], merge: StoredMerge
) -> AdapterManifest:
    """The manifest whose CID is the merged adapter's id. Raises RemoteProtocolError, ConfigError."""
    result, plan = merge.result, merge.plan
    return AdapterManifest(
        name=publication.name,
        base=parents[0].manifest.base,
        weights=merge.weights,
        weights_size=result.weights_size,
        rank=result.rank,
        alpha=result.rank,
        targets=tuple(sorted(result.targets)),
        template=publication.base_manifest.chat_template,
        datanets=union_of_datanets(parents),
        recipe=_recipe_of(parents, merge),
        early_checkpoint=None,
        factors=None,
        split=publication.split,
        priors=mixed_priors(parents),
        licence=publication.licence,
        author=publication.author,
        author_payee=publication.author_payee,
        parents=tuple(parent.adapter for parent in parents),
        merge=Merge(
            method=plan.method,
            parts=tuple(AdapterWeight(parent.adapter, parent.weight_ppm) for parent in parents),
            density_ppm=plan.density_ppm,
            seed=plan.seed,
        ),
    )


def _recipe_of(parents: Sequence[Parent], merge: StoredMerge) -> Recipe:
    """No step of training; the questions are put as the heaviest parent's were."""
    heaviest = max(parents, key=lambda parent: parent.weight_ppm)
    return Recipe(
        trainer=f"commonlore.merge/1 peft {version('peft')} torch {version('torch')}",
        steps=0,
        batch_size=0,
        learning_rate_ppb=0,
        rank=merge.result.rank,
        alpha=merge.result.rank,
        dropout_ppm=0,
        seed=merge.plan.seed,
        precision=merge.result.precision,
        question_template=heaviest.manifest.recipe.question_template,
    )


def union_of_datanets(parents: Sequence[Parent]) -> tuple[Cid, ...]:
    """Every Datanet that a parent rests on, once. Raises ConfigError where they are too many to name."""
    found = tuple(dict.fromkeys(datanet for parent in parents for datanet in parent.manifest.datanets))
    if len(found) > MAX_DATANETS:
        raise ConfigError(f"the merge rests on {len(found)} Datanets; at most {MAX_DATANETS} can be named")
    return found


def mixed_priors(parents: Sequence[Parent]) -> tuple[PriorWeight, ...]:
    """The parents' prior weights in proportion to their weights in the merge.

    Raises RemoteProtocolError where a parent's are not whole, ConfigError where they are too many.
    """
    found = mix_priors((parent.manifest, parent.weight_ppm) for parent in parents)
    if len(found) > MAX_PRIORS:
        raise ConfigError(f"the merge has {len(found)} contributors; at most {MAX_PRIORS} can be named")
    return found


def common_licence(parents: Sequence[Parent]) -> str:
    """The parents' licence. Raises ConfigError where they have different ones."""
    found = sorted({parent.manifest.licence for parent in parents})
    if len(found) > 1:
        raise ConfigError(f"the adapters have different licences ({'; '.join(found)}): name the merge's own")
    return found[0]
