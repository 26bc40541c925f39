"""What a row says, as words: order, case, spacing and punctuation do not matter. Copies are judged by it.

Rules of this file:
- Text is NFKC, case-folded, without format and control characters and without combining marks. A word is a
  run of letters and digits, with single . ' - inside it (`s52.121a`, `don't`). Scripts that are written
  without spaces give pairs of neighbouring characters instead.
- A word's rarity is log2 of one more than the rows there are, less log2 of the rows that have it, both
  rounded down to sixteenths by integer arithmetic, and at least one: the same number on every machine.
- Unicode's tables are the running Python's. Characters that a later Unicode assigns may be read otherwise.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

RARITY_UNIT = 16
"""Rarities are in sixteenths of a bit."""

_WORD = re.compile(r"[^\W_]+(?:[.'\u2019-][^\W_]+)*")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
_DROPPED = ("Mn", "Me", "Cf", "Cc")


def normalise(text: str) -> str:
    """The text as words are read from it."""
    decomposed = unicodedata.normalize("NFKD", text).casefold()
    if not decomposed.isascii():
        kept = (c for c in decomposed if c.isspace() or unicodedata.category(c) not in _DROPPED)
        decomposed = unicodedata.normalize("NFKC", "".join(kept))
    return decomposed


def words_in_order(text: str) -> list[str]:
    """The words of a text."""
    return [part for word in _WORD.findall(normalise(text)) for part in _parts(word)]


def words_of(text: str) -> frozenset[str]:
    """The distinct words of a text."""
    return frozenset(words_in_order(text))


def squeezed_digest(text: str) -> bytes:
    """A name (16 bytes) for a text's letters and digits in their order: equal where only spacing, case or
    punctuation differ."""
    squeezed = "".join(c for c in normalise(text) if c.isalnum())
    return _digest("squeezed", squeezed or text)


def bag_digest(words: frozenset[str]) -> bytes:
    """A name (16 bytes) for a set of words."""
    return _digest("bag", "\n".join(sorted(words)))


def rarity(rows: int, rows_with_word: int) -> int:
    """How much a word tells, in sixteenths of a bit, where `rows_with_word` of `rows` have it."""
    return max(1, _log2_units(rows + 1) - _log2_units(max(1, rows_with_word)))


def _digest(kind: str, text: str) -> bytes:
    return hashlib.blake2b(f"{kind}/{text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _parts(word: str) -> Iterator[str]:
    if word.isascii() or not (unspaced := _UNSPACED.search(word)):
        yield word
        return
    run = unspaced.group()
    yield from (run[i : i + 2] for i in range(max(1, len(run) - 1)))
    rest = _UNSPACED.sub(" ", word, count=1)
    yield from (part for piece in rest.split() for part in _parts(piece))


@lru_cache(maxsize=65_536)
def _log2_units(number: int) -> int:
    """floor(16 · log2(number)), exactly."""
    return int(number**RARITY_UNIT).bit_length() - 1
