"""`receipt explain` of an answer by several adapters: each adapter's explanation, laid together.

Rules of this file: a contributor's ppm are of the whole answer, those of its adapter's part by the adapter's
weight; amounts are what the part's credits say. What a row of the prompt did is measured by each adapter
alone; the mean by their weights is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from ...protocol.encoding.fields import PPM
from ...protocol.receipts.credits import apportion
from .evidence import Evidence
from .explaining import SHOWN_SPANS, ContributorPart, Explanation, PromptRow, ToolPart, explain

_Weighed = tuple[int, Explanation]
T = TypeVar("T", PromptRow, ToolPart)


def explain_parts(parts: Sequence[Evidence], answer: str | None, missing: Sequence[str] = ()) -> Explanation:
    """As `explain`, over all of a receipt's adapters."""
    found = [explain(evidence, answer, missing) for evidence in parts]
    if len(found) == 1:
        return found[0]
    weights = [evidence.part.weight_ppm if evidence.part else PPM for evidence in parts]
    weighed = list(zip(weights, found, strict=True))
    named = [(evidence.adapter, weight) for evidence, weight in zip(parts, weights, strict=True)]
    spans = dict.fromkeys(span for each in found for span in each.spans)
    return Explanation(
        method=", ".join(dict.fromkeys(each.method for each in found)),
        confidence="; ".join(
            f"{adapter} ({weight / PPM:.1%}): {each.confidence}"
            for (adapter, weight), each in zip(named, found, strict=True)
        ),
        contributors=_contributors(weighed),
        rows=tuple(sorted((row for each in found for row in each.rows), key=lambda row: -row.sigma)),
        prompt_rows=tuple(_mean(weighed, [each.prompt_rows for each in found])),
        tools=tuple(_mean(weighed, [each.tools for each in found])),
        spans=tuple(sorted(spans, key=lambda span: -span.bits)[:SHOWN_SPANS]),
        missing=tuple(dict.fromkeys(said for each in found for said in each.missing)),
    )


def _contributors(weighed: Sequence[_Weighed]) -> tuple[ContributorPart, ...]:
    entries = [(weight * part.ppm, part) for weight, each in weighed for part in each.contributors]
    keys = [number.to_bytes(4, "big") for number in range(len(entries))]
    ppm = apportion(PPM, [product for product, _ in entries], keys)
    scaled = [replace(part, ppm=share) for share, (_, part) in zip(ppm, entries, strict=True)]
    return tuple(sorted(scaled, key=lambda part: (-part.ppm, part.payee)))


def _mean(weighed: Sequence[_Weighed], parts: Sequence[Sequence[T]]) -> list[T]:
    """Parts of the prompt, each with the mean of what the adapters found that it did."""
    found: list[T] = []
    for same in zip(*parts, strict=True):
        measured = [
            (weight, part.nats)
            for (weight, _), part in zip(weighed, same, strict=True)
            if part.nats is not None
        ]
        whole = sum(weight for weight, _ in measured)
        nats = round(sum(weight * nats for weight, nats in measured) / whole, 6) if whole else None
        found.append(replace(_known(same), nats=nats))
    return found


def _known(same: Sequence[T]) -> T:
    """Of what is known of a part by each adapter, what has its text."""
    return next((part for part in same if isinstance(part, PromptRow) and part.question), same[0])
