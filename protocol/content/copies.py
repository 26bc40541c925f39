"""Which rows of several contributors are copies of earlier ones: integers only, the same on every machine.

Rules of this file:

- Shards are judged in the order of their commitments, each against the *representatives* of all earlier ones.
  A row that is no copy becomes a representative. Copies are compared with nothing: a copy of a copy is a copy
  only if it resembles the original.
- Rows are compared across contributors only. Within one contributor only the same letters again are a copy,
  since templated rows of one hand look alike.
- Likeness is of words without order (a shuffled decoy is as like as a copy), each weighed by its rarity
  among the representatives, so that what a template repeats hardly counts. Four measures, in thousandths:
  near = common / either's; contains = common / the earlier row's; within = common / this row's; patched =
  what the PATCHES earlier rows that give most have of this row's together.
- The same letters or the same words are a copy. So is a row that contains an earlier one (A joined with B is
  a copy of A; hence B, committed later, is not held against it), and one that is within an earlier one.
- A likeness is unusual if it exceeds what the earlier row has to any other representative. Rows of one
  family, honestly divided among names, are as like each other as everybody else's; only the unusual counts.
- A near copy (a word changed here and there) looks by itself like an honest member of a family. So the middle
  of each scale is evidence only. Who is evidently like more than two thirds of somebody's rows, or has more
  than two thirds of its own from one hand, or seven eighths from several, is a copier: of such a shard
  everything goes that is a little like anything, and where that leaves an eighth at most, everything: what
  is left of rows joined to others' would stand before the others. Below FEWEST rows nobody is called so.
- A short row is sought inside others if it would tell enough among FEW_ROWS. Among the rows of the first
  contributor nothing is rare yet, and joins of its templated rows with later people's would pass, and then
  unpay those.

What is read of the pool is bounded: a row's rarest words, at most POSTINGS places, and the CANDIDATES that
share most of them. Where even the rarest words are in thousands of rows a near copy may be missed; the same
letters and the same words are found by their digests, always.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from ..ids import Address
from .row_words import RARITY_UNIT, bag_digest, rarity, squeezed_digest, words_of

RULE = "copies/2"
"""Names everything below that decides."""
PERMILLE = 1000
SMALLEST = 24 * RARITY_UNIT
"""A row that tells less is not sought inside others."""
FEW_ROWS = 256
"""A pool of fewer is taken for so many where it is asked whether a row tells enough."""
FEWEST, FEWEST_MIXED = 3, 16
"""Evident rows that it takes to call somebody a copier, of one hand and of several."""
PATCHES = 2
LEAST_PATCH = 200
"""What each patch must add to a patched row, in thousandths of it."""
POSTINGS = 2048
CANDIDATES = 16


class CopyKind(StrEnum):
    """Why a row was dropped."""

    REPEATED = "repeated"  # the contributor's own row again
    SAME = "same"  # the same letters, or the same words in any order
    CONTAINS = "contains"
    WITHIN = "within"
    NEAR = "near"
    PATCHED = "patched"
    COMPANY = "company"  # of a copier's shard, like nothing: the original is the shard's first


_SCALES = {
    CopyKind.REPEATED: (1000, 1000, 1000),
    CopyKind.SAME: (1000, 1000, 1000),
    CopyKind.CONTAINS: (950, 700, 500),
    CopyKind.WITHIN: (950, 700, 500),
    CopyKind.NEAR: (850, 600, 300),
    CopyKind.PATCHED: (1001, 900, 700),
    CopyKind.COMPANY: (1000, 1000, 1000),
}
"""Where a likeness alone makes a copy, where it is evidence, and where it makes a copy of a copier's row."""
_ALONE, _EVIDENT, _ALIKE = 3, 2, 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """A dropped row: of its shard the `position`-th, for its `likeness` (thousandths) to the representative
    `original`, counted in the order of acceptance."""

    position: int
    kind: CopyKind
    original: int
    likeness: int


@dataclass(frozen=True, slots=True)
class _Text:
    owner: Address
    words: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Match:
    kind: CopyKind
    original: int
    likeness: int
    unusual: bool = True

    def doubted(self) -> _Match:
        """The same, where somebody else's row is as like."""
        return replace(self, unusual=False)

    @property
    def level(self) -> int:
        """What the likeness is good for: 0 … _ALONE."""
        level = sum(self.likeness >= needed for needed in _SCALES[self.kind])
        return level if self.unusual else min(level, _ALIKE)


class Representatives:
    """The rows that are no copies, and what finds those that resemble them."""

    def __init__(self) -> None:
        self._texts: list[_Text] = []
        self._postings: dict[str, array[int]] = {}
        self._by_digest: dict[bytes, int] = {}
        self._shard_sizes: Counter[Address] = Counter()
        self._weights: dict[int, int] = {}
        self._usual: dict[int, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def owner_of(self, original: int) -> Address:
        """Whose the `original`-th representative is."""
        return self._texts[original].owner

    def admit(self, owner: Address, texts: Sequence[str]) -> tuple[Verdict, ...]:
        """Judge a contributor's next shard and keep its representatives. Returns the rows that are copies."""
        rows = [_Text(owner, words_of(text)) for text in texts]
        matches = [self._match(row, text) for row, text in zip(rows, texts, strict=True)]
        needed = _ALONE
        if self._is_copier(matches):
            needed, matches = _ALIKE, _with_company(matches)
        self._weights.clear()
        self._usual.clear()
        self._shard_sizes[owner] += len(rows)
        verdicts: list[Verdict] = []
        for position, (row, text, match) in enumerate(zip(rows, texts, matches, strict=True)):
            if match is None or match.level < needed:
                match = self._keep(row, text)
            if match:
                verdicts.append(Verdict(position, match.kind, match.original, match.likeness))
        return tuple(verdicts)

    def _keep(self, row: _Text, text: str) -> _Match | None:
        """Make a row a representative, unless its owner has it already."""
        squeezed, position = squeezed_digest(text), len(self._texts)
        own = self._by_digest.setdefault(row.owner + squeezed, position)
        if own != position:
            return _Match(CopyKind.REPEATED, own, PERMILLE)
        self._by_digest.setdefault(squeezed, position)
        self._by_digest.setdefault(bag_digest(row.words), position)
        for word in row.words:
            self._postings.setdefault(word, array("I")).append(position)
        self._texts.append(row)
        return None

    def _match(self, row: _Text, text: str) -> _Match | None:
        """The strongest likeness to earlier rows of others, whether or not it will count."""
        for digest in (squeezed_digest(text), bag_digest(row.words) if row.words else b""):
            original = self._by_digest.get(digest)
            if original is not None and self.owner_of(original) != row.owner:
                return _Match(CopyKind.SAME, original, PERMILLE)
        others = [each for each in self._alike(row.words) if self.owner_of(each[0]) != row.owner]
        if not others:
            return None
        weight = self._weigh(row.words)
        tells = self._tells(row.words, weight)
        found = [match for each in others for match in self._pairwise(*each, weight, tells)]
        if tells:
            found += self._patched(row.words, [other for other, _ in others], weight)
        return max(found, key=lambda match: (match.level, match.likeness))

    def _pairwise(self, other: int, common: int, weight: int, tells: bool) -> Iterator[_Match]:
        theirs = self._weight_of(other)
        near = _Match(CopyKind.NEAR, other, PERMILLE * common // (theirs + weight - common))
        contains = _Match(CopyKind.CONTAINS, other, PERMILLE * common // theirs)
        yield near if near.level <= _ALIKE or near.likeness > self._usual_of(other)[0] else near.doubted()
        yield _Match(CopyKind.WITHIN, other, PERMILLE * common // weight, tells)
        if contains.level > _ALIKE:
            usual = contains.likeness <= self._usual_of(other)[1]
            tells = self._tells(self._texts[other].words, theirs)
            contains = contains.doubted() if usual or not tells else contains
        yield contains

    def _patched(self, words: frozenset[str], others: Sequence[int], weight: int) -> Iterator[_Match]:
        """The row as one sewn together from PATCHES others, each of which adds to it."""
        left, patches = words, list[int]()
        for _ in range(PATCHES):
            gains = [(self._weigh(left & self._texts[other].words), -other) for other in others]
            gain, number = max(gains)
            if PERMILLE * gain < LEAST_PATCH * weight:
                return
            left -= self._texts[-number].words
            patches.append(-number)
        yield _Match(CopyKind.PATCHED, patches[0], PERMILLE * (weight - self._weigh(left)) // weight)

    def _usual_of(self, position: int) -> tuple[int, int]:
        """How near the nearest other representative comes, and how much of this one another contains."""
        if position not in self._usual:
            weight, near, contains = self._weight_of(position), 0, 0
            for other, common in self._alike(self._texts[position].words, but=position):
                near = max(near, PERMILLE * common // (weight + self._weight_of(other) - common))
                contains = max(contains, PERMILLE * common // weight)
            self._usual[position] = near, contains
        return self._usual[position]

    def _alike(self, words: frozenset[str], but: int = -1) -> list[tuple[int, int]]:
        """The representatives that share most of the rarest words, each with the rarity in common."""
        known = [(len(found), word, found) for word in words if (found := self._postings.get(word))]
        places: list[npt.NDArray[np.uint32]] = []
        weights: list[int] = []
        read = 0
        for count, _, postings in sorted(known, key=lambda each: each[:2]):
            read += count
            if read > POSTINGS and places:
                break
            places.append(np.frombuffer(postings, np.uint32, min(count, POSTINGS)))
            weights.append(rarity(len(self), count))
        most = _heaviest(places, weights, CANDIDATES + 1)
        chosen = [position for position in most if position != but][:CANDIDATES]
        return [(position, self._weigh(words & self._texts[position].words)) for position in chosen]

    def _weigh(self, words: Iterable[str]) -> int:
        return sum(rarity(len(self), len(self._postings.get(word, ()))) for word in words)

    def _weight_of(self, position: int) -> int:
        if position not in self._weights:
            self._weights[position] = self._weigh(self._texts[position].words)
        return self._weights[position]

    def _tells(self, words: frozenset[str], weight: int) -> bool:
        """Whether a row of this weight tells enough to be sought inside others."""
        if weight >= SMALLEST or len(self) >= FEW_ROWS:
            return weight >= SMALLEST
        return sum(rarity(FEW_ROWS, len(self._postings.get(word, ()))) for word in words) >= SMALLEST

    def _is_copier(self, matches: Sequence[_Match | None]) -> bool:
        """Whether a shard as a whole is evidently made from others' rows."""
        evident = {match.original for match in matches if match and match.level >= _EVIDENT}
        of_each = Counter(self.owner_of(original) for original in evident)
        for owner, count in of_each.items():
            smaller = min(len(matches), self._shard_sizes[owner])
            if count >= FEWEST and 3 * count > 2 * smaller:
                return True
        return len(evident) >= FEWEST_MIXED and 8 * len(evident) >= 7 * len(matches)


def _with_company(matches: Sequence[_Match | None]) -> list[_Match | None]:
    """A copier's matches; where an eighth at most is like nothing, that goes with the rest."""
    alike = [match for match in matches if match and match.level >= _ALIKE]
    if 8 * len(alike) < 7 * len(matches):
        return list(matches)
    company = _Match(CopyKind.COMPANY, alike[0].original, PERMILLE)
    return [match if match and match.level >= _ALIKE else company for match in matches]


def _heaviest(places: Sequence[npt.NDArray[np.uint32]], weights: Sequence[int], count: int) -> list[int]:
    """The `count` positions of greatest summed weight, ties to the lowest."""
    if not places:
        return []
    each = np.repeat(np.array(weights, np.int64), [len(some) for some in places])
    positions, which = np.unique(np.concatenate(places), return_inverse=True)
    sums = np.zeros(len(positions), np.int64)
    np.add.at(sums, which, each)
    chosen: list[int] = positions[np.argsort(-sums, kind="stable")[:count]].tolist()
    return chosen
