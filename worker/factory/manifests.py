"""From a finished run to the records that publish its adapter: pure, given the names of the stored blobs.

Rules of this file:
- A manifest states everything that the run depended on, so that whoever holds base and rows can train the
  same adapter.
- Prior weights are the contributors' shares of the rows: what is paid where no influence is found.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version

from ...protocol.attribution.scoring import compute_priors
from ...protocol.content.manifests import AdapterManifest, BaseManifest, Evaluation, IndexPlan, Recipe, Split
from ...protocol.content.retraining import Retrained
from ...protocol.encoding.codec import record_hash
from ...protocol.errors import InvalidAdapter
from ...protocol.gossip.adverts import AdapterRecord
from ...protocol.ids import Address, Cid
from ..models.architecture import LINEARS
from .job import TrainConfig, TrainResult

QUESTION_TEMPLATE = "user: {question} / assistant: {answer}"
_PPB = 1_000_000_000
_TRAINER = "commonlore.factory/2"
"""Says how a recipe is followed; since 2 the early checkpoint is a mean of adapters."""


@dataclass(frozen=True, slots=True)
class Publication:
    """What an author decides about an adapter.

    `payees` has one entry for each row that counts, in any order; `selection` names the record of the others,
    `indexed` says how many of those that count are to be indexed.
    """

    name: str
    base: Cid
    base_manifest: BaseManifest
    datanets: tuple[Cid, ...]
    payees: tuple[Address, ...]
    split: Split
    licence: str
    author: bytes
    author_payee: Address
    parents: tuple[Cid, ...] = ()
    selection: Cid | None = None
    indexed: IndexPlan | None = None
    retrained: Retrained | None = None


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A finished run whose files are stored: the CIDs of the adapter's, the early checkpoint's and the
    curvature's safetensors.
    """

    config: TrainConfig
    result: TrainResult
    weights: Cid
    early_checkpoint: Cid
    factors: Cid | None = None


def recipe_of(config: TrainConfig) -> Recipe:
    """Every parameter of a run as its manifest states them."""
    libraries = f"peft {version('peft')} torch {version('torch')}"
    return Recipe(
        trainer=f"{_TRAINER} warmup {config.warmup_steps} {libraries}",
        steps=config.steps,
        batch_size=config.batch_size,
        learning_rate_ppb=round(config.learning_rate * _PPB),
        rank=config.rank,
        alpha=config.alpha,
        dropout_ppm=0,
        seed=config.seed,
        precision=config.precision,
        question_template=QUESTION_TEMPLATE,
    )


def config_of(recipe: Recipe) -> TrainConfig:
    """How to train as a recipe says. Raises InvalidAdapter where it is another trainer's."""
    match recipe.trainer.split():
        case [trainer, "warmup", steps, *_] if trainer == _TRAINER and steps.isascii() and steps.isdigit():
            warmup = int(steps)
        case _:
            raise InvalidAdapter(f"a recipe of {recipe.trainer!r}: this program cannot train by it")
    return TrainConfig(
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        rank=recipe.rank,
        alpha=recipe.alpha,
        learning_rate=recipe.learning_rate_ppb / _PPB,
        warmup_steps=warmup,
        seed=recipe.seed,
        precision=recipe.precision,
    )


def describe_adapter(publication: Publication, run: StoredRun) -> AdapterManifest:
    """The manifest whose CID is the adapter's id. Raises LocalProtocolError where no row has a payee."""
    return AdapterManifest(
        name=publication.name,
        base=publication.base,
        weights=run.weights,
        weights_size=run.result.weights_size,
        rank=run.config.rank,
        alpha=run.config.alpha,
        targets=tuple(sorted(LINEARS)),
        template=publication.base_manifest.chat_template,
        datanets=publication.datanets,
        recipe=recipe_of(run.config),
        early_checkpoint=run.early_checkpoint,
        factors=run.factors,
        split=publication.split,
        priors=compute_priors(count_rows(publication.payees)),
        licence=publication.licence,
        author=publication.author,
        author_payee=publication.author_payee,
        parents=publication.parents,
        selection=publication.selection,
        indexed=publication.indexed,
        retrained=publication.retrained,
    )


def describe_evaluation(adapter: Cid, result: TrainResult) -> Evaluation | None:
    """The held-out loss before and after, as a statement about the adapter; None where nothing was held
    out: there is nothing to state.
    """
    before, after = result.heldout_loss_before, result.heldout_loss_after
    if before is None or after is None:
        return None
    return Evaluation(
        adapter=adapter,
        rows=result.heldout,
        loss_before_micro=round(before * 1_000_000),
        loss_after_micro=round(after * 1_000_000),
    )


@dataclass(frozen=True, slots=True)
class Announced:
    """What an adapter's record points to: its id, its sealed index, and what was measured, if anything: its
    held-out loss, and how faithful the index is (sealed)."""

    adapter: Cid
    index: Cid | None
    evaluation: Evaluation | None
    faithfulness: Cid | None = None


def announce_adapter(
    alias: str, manifest: AdapterManifest, announced: Announced, stamp: tuple[int, int]
) -> AdapterRecord:
    """The gossiped record of an adapter under `alias` (owner/name); `stamp` is (seq, issued_ms)."""
    evaluation = announced.evaluation
    return AdapterRecord(
        alias=alias,
        adapter=announced.adapter,
        base=manifest.base,
        index=announced.index,
        evaluation=record_hash(evaluation) if evaluation else None,
        loss_before_micro=evaluation.loss_before_micro if evaluation else 0,
        loss_after_micro=evaluation.loss_after_micro if evaluation else 0,
        seq=stamp[0],
        issued_ms=stamp[1],
        faithfulness=announced.faithfulness,
    )


def count_rows(payees: Iterable[Address]) -> list[tuple[Address, int]]:
    """Rows by payee, sorted by account."""
    counts: dict[Address, int] = {}
    for payee in payees:
        counts[payee] = counts.get(payee, 0) + 1
    return sorted(counts.items())
