"""`receipt explain`: to which contributors and rows an answer owes, by which channel, on what that rests, and
the words it shares with rows.

Rules of this file: the weights shown are those that are paid; a row's score is its committed vector times the
query vector, in standard deviations of all indexed rows, so that who reads it sees what stands out. Spans are
evidence for people and change no number. What is not on this machine is named, never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...protocol.attribution.faithfulness import PRIOR_METHODS
from ...protocol.attribution.scoring import compute_scores, compute_weights, prior_weights, read_sums
from ...protocol.content.manifests import AdapterManifest, Row
from ...protocol.content.rows import row_hash
from ...protocol.errors import MissingDependency
from ...protocol.ids import Address, Cid
from ...protocol.receipts.channels import combine_channels, divide_channels, payable
from ...protocol.receipts.records import Effects, Weight
from ...protocol.requests.prompt_parts import ROW
from ...protocol.requests.tools import tool_results
from ...worker.attribution.spans import SpanIndex, find_spans
from ..datanets.shards import PulledDatanet, PulledShard
from .evidence import Evidence
from .explaining_basis import confidence_of, counts_for_nothing, is_overruled, method_of
from .rows_at_hand import scored_rows

SHOWN_ROWS, SHOWN_SPANS = 12, 8
NO_ROWS = "the rows of the adapter's Datanets: rows are shown by their hashes, and no spans"
NO_INDEX_NAMED = "rows and spans: no index is at hand by which a statement scores them"


@dataclass(frozen=True, slots=True)
class ContributorPart:
    """What a contributor is owed through one channel. `name` as its shards say, empty where unknown."""

    channel: str
    payee: Address
    name: str
    ppm: int
    amount: int
    adapter: Cid | None = None


@dataclass(frozen=True, slots=True)
class RowPart:
    """An indexed row and how far it stands out: `sigma` standard deviations above the mean of all rows."""

    row: bytes
    payee: Address
    name: str
    sigma: float
    question: str
    answer: str
    adapter: Cid | None = None


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A row that stood in the prompt; `nats`: how much likelier it made the answer, None if not measured."""

    row: bytes
    payee: Address | None
    name: str
    question: str
    answer: str
    nats: float | None


@dataclass(frozen=True, slots=True)
class ToolPart:
    """What a tool gave back in the prompt: recorded, never paid. Texts are empty where the prompt is not
    here."""

    part: bytes
    name: str
    arguments: str
    result: str
    nats: float | None


@dataclass(frozen=True, slots=True)
class SharedSpan:
    """Words that the answer has from rows: how many places have them, and whose the first is."""

    text: str
    bits: int
    places: int
    name: str
    row: bytes


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that is known of why an answer pays whom. `missing` are sentences."""

    method: str
    confidence: str
    contributors: tuple[ContributorPart, ...]
    rows: tuple[RowPart, ...]
    prompt_rows: tuple[PromptRow, ...]
    tools: tuple[ToolPart, ...]
    spans: tuple[SharedSpan, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Known:
    """The rows at hand, by their hashes."""

    names: dict[Address, str]
    rows: dict[bytes, tuple[PulledShard, Row]]

    @classmethod
    def of(cls, datanets: Sequence[PulledDatanet]) -> _Known:
        shards = [shard for datanet in datanets for shard in datanet.shards]
        names = {shard.payee: shard.shard.header.contributor for shard in shards}
        return cls(names, {row_hash(row): (shard, row) for shard in shards for row in shard.rows})

    def text(self, digest: bytes) -> tuple[str, str]:
        """(question, answer), empty where the row is not at hand."""
        found = self.rows.get(digest)
        return (found[1].question, found[1].answer) if found else ("", "")


def explain(evidence: Evidence, answer: str | None, missing: Sequence[str] = ()) -> Explanation:
    """`answer` is its text, None where this machine cannot tell; `missing` what the caller could not get."""
    known = _Known.of(evidence.datanets)
    gaps = list(missing)
    if evidence.manifest is not None and not known.rows:
        gaps.append(NO_ROWS if evidence.index is not None else NO_INDEX_NAMED)
    spans: tuple[SharedSpan, ...] = ()
    if answer is None:
        gaps.append("the base's tokenizer: the answer's words are not known, so no spans are shown")
    elif known.rows:
        spans = _spans(evidence.datanets, answer, gaps)
    return Explanation(
        method=method_of(evidence),
        confidence=confidence_of(evidence),
        contributors=_contributors(evidence, known),
        rows=_rows(evidence, known),
        prompt_rows=_prompt_rows(evidence, known),
        tools=_tools(evidence),
        spans=spans,
        missing=tuple(gaps),
    )


def _contributors(evidence: Evidence, known: _Known) -> tuple[ContributorPart, ...]:
    if evidence.manifest is None:
        return ()
    weights, effects = _before_channels(evidence, evidence.manifest)
    amounts = {c.account: c.amount for c in evidence.part_credits if c.role == "contributor"}
    parts = [
        ContributorPart(
            share.channel.value,
            weight.payee,
            known.names.get(weight.payee, ""),
            weight.ppm,
            0,
            evidence.adapter,
        )
        for share in divide_channels(weights, effects)
        for weight in share.weights
    ]
    paid = [_with_amount(part, amounts, combine_channels(weights, effects)) for part in parts]
    return tuple(sorted(paid, key=lambda part: (-part.ppm, part.payee)))


def _before_channels(
    evidence: Evidence, manifest: AdapterManifest
) -> tuple[tuple[Weight, ...], Effects | None]:
    """The adapter's own weights and what is paid of the prompt's parts. Where the index is not at hand, the
    weights over all channels, and no parts."""
    if evidence.statement is None or is_overruled(evidence) or counts_for_nothing(evidence):
        return prior_weights(manifest), None
    statement = evidence.statement.record
    effects = payable(statement.effects, {prior.payee for prior in manifest.priors})
    if statement.method in PRIOR_METHODS:
        return prior_weights(manifest), effects
    if effects is None or evidence.index is None:
        return statement.weights, None
    index, query = evidence.index.manifest, np.frombuffer(evidence.index.query, np.int8)
    scores = compute_scores(query, read_sums(index, evidence.index.sums))
    own = compute_weights(scores, index.payees)
    return (statement.weights, None) if own is None else (own, effects)


def _with_amount(
    part: ContributorPart, amounts: dict[Address, int], weights: Sequence[Weight]
) -> ContributorPart:
    """An account's credit, by this channel's part of its weight."""
    whole = sum(weight.ppm for weight in weights if weight.payee == part.payee) or 1
    amount = amounts.get(part.payee, 0) * part.ppm // whole
    return replace(part, amount=amount)


def _rows(evidence: Evidence, known: _Known) -> tuple[RowPart, ...]:
    if evidence.index is None:
        return ()
    manifest = evidence.index.manifest
    query = np.frombuffer(evidence.index.query, np.int8)
    positions, scores = scored_rows(evidence.index, query)
    if not positions:
        return ()
    spread = float(scores.std()) or 1.0
    owners = manifest.owners
    found: list[RowPart] = []
    for at in np.argsort(-scores, kind="stable")[:SHOWN_ROWS].tolist():
        digest, owner = manifest.row_hashes[positions[at]], owners[positions[at]]
        sigma = round((float(scores[at]) - float(scores.mean())) / spread, 2)
        if sigma <= 0:
            break  # no row from here on stands out
        text = known.text(digest)
        found.append(RowPart(digest, owner, known.names.get(owner, ""), sigma, *text, evidence.adapter))
    return tuple(found)


def _prompt_rows(evidence: Evidence, known: _Known) -> tuple[PromptRow, ...]:
    prompt, nats = evidence.stored.prompt, _nats(evidence)
    payees = {part.part: part.payee for part in prompt.parts if part.channel == ROW} if prompt else {}
    found: list[PromptRow] = []
    for digest in evidence.stored.signed.details.retrieved_rows:
        payee = payees.get(digest)
        name = known.names.get(payee, "") if payee else ""
        found.append(PromptRow(digest, payee, name, *known.text(digest), nats.get(digest)))
    return tuple(found)


def _tools(evidence: Evidence) -> tuple[ToolPart, ...]:
    prompt, nats = evidence.stored.prompt, _nats(evidence)
    shown = {} if prompt is None else {each.digest: each for each in tool_results(prompt.messages)}
    found: list[ToolPart] = []
    for digest in evidence.stored.signed.details.tool_calls:
        known = shown.get(digest)
        texts = ("", "", "") if known is None else (known.call.name, known.call.arguments, known.result)
        found.append(ToolPart(digest, *texts, nats.get(digest)))
    return tuple(found)


def _nats(evidence: Evidence) -> dict[bytes, float]:
    """How much likelier each part of the prompt made the answer, as far as it was measured."""
    stated = evidence.statement.record.effects if evidence.statement else None
    return {part.part: part.effect_micro / 1e6 for part in stated.parts} if stated else {}


def _spans(datanets: Sequence[PulledDatanet], answer: str, gaps: list[str]) -> tuple[SharedSpan, ...]:
    shards = [shard for datanet in datanets for shard in datanet.shards]
    try:
        indexes = [SpanIndex(f"{row.question}\n{row.answer}" for row in shard.rows) for shard in shards]
    except MissingDependency as error:
        gaps.append(str(error))
        return ()
    found: list[SharedSpan] = []
    for span in find_spans(answer, indexes)[:SHOWN_SPANS]:
        place = span.places[0]
        shard = shards[place.shard]
        name, digest = shard.shard.header.contributor, row_hash(shard.rows[place.row])
        found.append(SharedSpan(span.text, span.bits, span.count, name, digest))
    return tuple(found)
