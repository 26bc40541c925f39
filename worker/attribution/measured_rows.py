"""By which of an adapter's rows its faithfulness is measured, and what its null adapter learns.

Rules of this file:
- Queries are rows that were not indexed; where these are too few, some of the indexed stand aside, drawn.
- Halves are of the rows that are most alike to the queries, in turn: in words, each weighing as it is rare.
  A row that has nothing to do with any question adds cost and noise. No score is asked which rows these are.
- The null adapter learns, in each row's place, another row's question with the answer of a third: neither
  what it knows nor what its index has in a place has to do with the row that stands there.
- Everything follows from the texts and a seed. No torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...protocol.attribution.faithfulness import FEWEST_QUERIES, FEWEST_ROWS
from ...protocol.content.row_words import rarity, words_of
from ...protocol.errors import ConfigError
from ..factory.job import Pair
from .faithfulness import shuffled

ASIDE = 4
"""Of an index's rows one in so many may stand aside as a query, where there are too few others."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """`rows` (positions in the index), of which halves are trained on; as queries so many of the rows that
    were not indexed, and those in `aside` (positions)."""

    rows: tuple[int, ...]
    others: int
    aside: tuple[int, ...]


def draw_rows(indexed: Sequence[str], others: Sequence[str], wanted: tuple[int, int], seed: bytes) -> Drawn:
    """From the texts of an index's rows and of rows that it does not hold; `wanted` are (rows, queries).

    Raises ConfigError where too few are left to measure by.
    """
    rows, queries = wanted
    order = shuffled(len(indexed), seed + b"/rows/").tolist()
    fill = min(queries, len(others))
    aside = order[: min(queries - fill, len(indexed) // ASIDE)]
    asked = [*others[:fill], *(indexed[place] for place in aside)]
    chosen = _alike(indexed, order[len(aside) :], asked, rows)
    if len(chosen) < FEWEST_ROWS or len(asked) < FEWEST_QUERIES:
        raise ConfigError(f"an index of {len(indexed)} rows is too small to be measured by")
    return Drawn(tuple(sorted(chosen)), fill, tuple(sorted(aside)))


def _alike(texts: Sequence[str], places: Sequence[int], asked: Sequence[str], count: int) -> list[int]:
    """So many of the places: each query's most alike in turn, ties in the order given."""
    words = {place: words_of(texts[place]) for place in places}
    holders = Counter(word for own in words.values() for word in own)
    turns = [_ranked(words, words_of(text), holders) for text in asked]
    chosen = dict.fromkeys(place for turn in zip(*turns, strict=True) for place in turn)
    return list(chosen)[:count]


def _ranked(words: dict[int, frozenset[str]], asked: frozenset[str], holders: Counter[str]) -> Iterator[int]:
    weights = {word: rarity(len(words), holders[word]) for word in asked if holders[word]}
    likeness = {place: sum(weights.get(word, 0) for word in own & asked) for place, own in words.items()}
    return iter(sorted(words, key=lambda place: -likeness[place]))


def deal_rows(rows: Sequence[Pair], seed: bytes) -> list[Pair]:
    """To each place the question of another row, with the answer of a third one."""
    order = shuffled(len(rows), seed + b"/dealt/").tolist()
    shifted = [np.roll(order, part * len(rows) // 3).tolist() for part in (1, 2)]
    dealt = list(rows)
    for place, question, answer in zip(order, *shifted, strict=True):
        dealt[place] = Pair(rows[question].question, rows[answer].answer)
    return dealt
