"""BERT's words and word pieces, uncased (Devlin et al., 2018): text as the ids that a BERT model reads.

Rules of this file: as the tokenizer that the model's files describe. Control characters go, letters lose case
and accents, every punctuation mark and every CJK character is a word, and a word is the longest known pieces
from the left, or unknown as a whole. Unicode's tables are the running Python's.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping

_UNKNOWN, _BEGIN, _END = "[UNK]", "[CLS]", "[SEP]"
_LONGEST_WORD = 100
_IDEOGRAPHS = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2FA1F), (0xF900, 0xFAFF))


class WordPiece:
    """A vocabulary {piece: id}; pieces within a word begin with ##."""

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        self._ids = vocabulary
        self._begin, self._end, self._unknown = (vocabulary[name] for name in (_BEGIN, _END, _UNKNOWN))

    def encode(self, text: str, max_tokens: int) -> list[int]:
        """A text's ids between the two marks, at most so many with them."""
        found: list[int] = []
        for word in _words(text):
            found += self._pieces(word)
            if len(found) >= max_tokens - 2:
                break
        return [self._begin, *found[: max_tokens - 2], self._end]

    def _pieces(self, word: str) -> list[int]:
        pieces: list[int] = []
        start = 0
        while start < len(word):
            end = len(word) if len(word) <= _LONGEST_WORD else start
            while end > start and self._piece(word, start, end) not in self._ids:
                end -= 1
            if end == start:
                return [self._unknown]
            pieces.append(self._ids[self._piece(word, start, end)])
            start = end
        return pieces

    @staticmethod
    def _piece(word: str, start: int, end: int) -> str:
        return ("##" if start else "") + word[start:end]


def _words(text: str) -> Iterator[str]:
    word = ""
    for character in _normalised(text):
        if character.isspace() or _stands_alone(character):
            if word:
                yield word
            word = ""
            if not character.isspace():
                yield character
        else:
            word += character
    if word:
        yield word


def _normalised(text: str) -> str:
    kept = (" " if c.isspace() else c for c in text if c.isspace() or _is_shown(c))
    decomposed = unicodedata.normalize("NFD", "".join(kept))
    return "".join(c for c in decomposed if unicodedata.category(c) != "Mn").lower()


def _is_shown(character: str) -> bool:
    return character not in "\0\ufffd" and not unicodedata.category(character).startswith("C")


def _stands_alone(character: str) -> bool:
    code = ord(character)
    if code < 128:
        return not character.isalnum()
    if unicodedata.category(character).startswith("P"):
        return True
    return any(low <= code <= high for low, high in _IDEOGRAPHS)
