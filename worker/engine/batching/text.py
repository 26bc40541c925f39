"""Tokens to text as they come: never half a character, never part of a stop string.

Rules of this file:
- What has been given out is final; the concatenation equals decoding all tokens at once, cut at the stop
  string.
- A token's text may depend on its neighbours, so a small window of tokens is decoded again with every new
  one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]
_REPLACEMENT = "\ufffd"
_MAX_UNDECIDED = 16
"""Tokens after which bytes that are still no character are given out as replacement characters."""


class TextStream:
    """Incremental decoding with stop strings. `stopped` once one has appeared; nothing follows then."""

    def __init__(self, decode: Decode, stop: Sequence[str]) -> None:
        self._decode = decode
        self._stop = [text for text in stop if text]
        self._tokens: list[int] = []
        self._context = 0  # tokens[context:read] are decoded again only as context
        self._read = 0
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """The text that this token makes certain."""
        self._tokens.append(token)
        before = self._decode(self._tokens[self._context : self._read])
        after = self._decode(self._tokens[self._context :])
        undecided = after.endswith(_REPLACEMENT) and len(self._tokens) - self._read < _MAX_UNDECIDED
        if undecided or len(after) <= len(before):
            if len(self._tokens) - self._read > _MAX_UNDECIDED:
                del self._tokens[-1]  # it says nothing, and would be decoded again with each that follows
            return ""
        self._context, self._read = self._read, len(self._tokens)
        return self._filter(after[len(before) :])

    def finish(self) -> str:
        """What was held back, when no more tokens come."""
        before = self._decode(self._tokens[self._context : self._read])
        rest = self._filter(self._decode(self._tokens[self._context :])[len(before) :])
        held, self._held = self._held, ""
        self._context = self._read = len(self._tokens)
        return rest if self.stopped else rest + held

    def _filter(self, text: str) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        found = [index for index in (text.find(stop) for stop in self._stop) if index >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
