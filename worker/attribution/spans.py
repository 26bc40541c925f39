"""Spans of an answer that stand word for word in training rows: evidence for people, never pay.

A suffix array over the rows' words finds, from every word of an answer, the longest run that some row has;
runs within longer runs are left out, and the rest is ranked by rarity. A shuffled decoy shares single words
and no long runs, a template's phrase is in many rows and so not rare: what is left at the top is what was
said before by somebody. It is shown, and never paid: whoever copies a phrase has it too.

Rules of this file: an index is additive, one a shard, and an answer is looked up in each; words are those by
which copies are judged (`protocol.content.row_words`), so that no tokenizer is needed; a row's end is a word
of its own that no answer has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...protocol.content.row_words import RARITY_UNIT, rarity, words_in_order
from ...protocol.errors import MissingDependency

LEAST_WORDS = 3
"""Shorter runs say nothing."""
MAX_SPANS = 64
MAX_PLACES = 8
"""Rows shown of a span that many have."""
_ROW_END = 0
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SpanPlace:
    """Where a span stands: a shard's number as given, and the row's number in it."""

    shard: int
    row: int


@dataclass(frozen=True, slots=True)
class Span:
    """A run of an answer's words, `start` up to `end`, that rows have: in how many places, the first of them,
    and its rarity in bits (of the words in it, among the rows)."""

    start: int
    end: int
    text: str
    count: int
    places: tuple[SpanPlace, ...]
    bits: int


class SpanIndex:
    """A suffix array over one shard's rows."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Raises MissingDependency without pydivsufsort."""
        self._ids: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        ids, starts = list[int](), list[int]()
        for text in texts:
            words = words_in_order(text)
            starts.append(len(ids))
            ids += [self._ids.setdefault(word, len(self._ids) + 1) for word in words]
            ids.append(_ROW_END)
            for word in set(words):
                self._counts[word] = self._counts.get(word, 0) + 1
        self.rows = len(starts)
        self._starts = np.array(starts, np.int64)
        self._words = np.array(ids, np.uint32)
        self._suffixes = _suffix_array(self._words)

    def rows_with(self, word: str) -> int:
        """How many rows have a word."""
        return self._counts.get(word, 0)

    def longest_run(self, words: Sequence[str]) -> tuple[int, Int64s]:
        """The length of the longest run, from the first of `words` on, that a row has, and the rows that have
        it (numbers, one for each place)."""
        low, high, length = 0, len(self._suffixes), 0
        for word in words:
            known = self._ids.get(word)
            if known is None:
                break
            narrower = self._narrow(low, high, length, known)
            if narrower[0] == narrower[1]:
                break
            (low, high), length = narrower, length + 1
        places = np.sort(self._suffixes[low:high]) if length else np.zeros(0, np.int64)
        return length, np.searchsorted(self._starts, places, side="right") - 1

    def _narrow(self, low: int, high: int, depth: int, word: int) -> tuple[int, int]:
        """The suffixes of [low, high), alike in `depth` words, whose next word is this."""
        first = self._bound(low, high, depth, word)
        return first, self._bound(first, high, depth, word + 1)

    def _bound(self, low: int, high: int, depth: int, word: int) -> int:
        while low < high:
            middle = (low + high) // 2
            place = int(self._suffixes[middle]) + depth
            if place < len(self._words) and int(self._words[place]) >= word:
                high = middle
            else:
                low = middle + 1
        return low


def find_spans(answer: str, shards: Sequence[SpanIndex]) -> list[Span]:
    """The maximal spans of an answer that rows of these shards have, the rarest first, at most MAX_SPANS."""
    words = words_in_order(answer)
    rows = sum(shard.rows for shard in shards)
    bits = [rarity(rows, sum(shard.rows_with(word) for shard in shards)) for word in words]
    found = list(_maximal(words, shards))
    spans = [_describe(words, bits, start, length, shards) for start, length in found]
    return sorted(spans, key=lambda span: (-span.bits, span.start))[:MAX_SPANS]


def _maximal(words: Sequence[str], shards: Sequence[SpanIndex]) -> Iterator[tuple[int, int]]:
    """(start, length) of the runs that are not within another."""
    reached = 0
    for start in range(len(words)):
        length = max((shard.longest_run(words[start:])[0] for shard in shards), default=0)
        if start + length > reached:
            reached = start + length
            if length >= LEAST_WORDS:
                yield start, length


def _describe(
    words: Sequence[str], bits: Sequence[int], start: int, length: int, shards: Sequence[SpanIndex]
) -> Span:
    run = words[start : start + length]
    places: list[SpanPlace] = []
    count = 0
    for number, shard in enumerate(shards):
        reached, rows = shard.longest_run(run)
        if reached == length:
            count += len(rows)
            places += [SpanPlace(number, int(row)) for row in dict.fromkeys(rows.tolist())]
    told = sum(bits[start : start + length]) // RARITY_UNIT
    return Span(start, start + length, " ".join(run), count, tuple(places[:MAX_PLACES]), told)


def _suffix_array(words: npt.NDArray[np.uint32]) -> Int64s:
    try:
        from pydivsufsort import divsufsort
    except ImportError:
        raise MissingDependency(
            "spans need pydivsufsort; install it: pip install 'commonlore[worker]'"
        ) from None
    if not len(words):
        return np.zeros(0, np.int64)
    return np.asarray(divsufsort(words), np.int64)
