"""Examples as tokens, and the order in which a run meets them.

Rules of this file:
- A prompt's tokens are those that the engine would see: the base's own chat template, ready for the
  assistant's turn. The answer follows, then the base's end token; only these two are scored.
- A row longer than LONGEST tokens, or than its base sees, is cut, so that one row neither holds up a training
  nor costs without bound. Whoever makes an example of a row cuts it alike: index, checks and retraining.
- The order is a function of (seed, epoch): rows sorted by a hash. No library's generator, so that the same
  job gives the same run in every version, and a resumed run meets what the killed one would have met.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ...protocol.requests.records import ChatMessage
from ..models.reference import BaseModel
from .job import LONGEST, Pair

_PROMPT_END = 32
"""Of a question that is cut in its middle, the last tokens that stay: the template's way to the answer."""


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids; those from `answer_start` on are scored, each predicted from the ones before. A row that was
    cut is not `whole`.
    """

    tokens: tuple[int, ...]
    answer_start: int
    whole: bool = True


class Encoder:
    """Turns text into examples for one base."""

    def __init__(self, base: BaseModel) -> None:
        self._tokenizer = base.tokenizer()
        self._end = base.architecture.eos_token_ids[:1]
        self._longest = min(LONGEST, base.architecture.max_positions)

    def pair(self, pair: Pair) -> Example:
        """A row: its question as the user's turn, its answer with the end token. Of what is too long the
        answer's end goes, and of a question longer than half, its middle.
        """
        prompt = self._tokenizer.encode_chat((ChatMessage("user", pair.question),))
        answer = (*self._tokenizer.encode(pair.answer), *self._end)
        if len(prompt) + len(answer) <= self._longest:
            return Example((*prompt, *answer), len(prompt))
        room = max(self._longest // 2, self._longest - len(answer))
        if len(prompt) > room:
            end = min(_PROMPT_END, room // 2)
            prompt = [*prompt[: room - end], *prompt[len(prompt) - end :]]
        return Example((*prompt, *answer)[: self._longest], len(prompt), whole=False)

    def answer(self, messages: Sequence[ChatMessage], output: Sequence[int]) -> Example:
        """An answer that a model gave: the conversation, and the output tokens as they were."""
        prompt = self._tokenizer.encode_chat(messages)
        return Example((*prompt, *output), len(prompt))

    def output_tokens(self, text: str) -> list[int]:
        """An answer's text as the tokens it would have been, with the end token."""
        return [*self._tokenizer.encode(text), *self._end]


def batches(seed: int, count: int, batch_size: int, first_step: int = 0) -> Iterator[list[int]]:
    """Endlessly, the rows (0 … count-1) of each step from `first_step` on: shuffled epochs, one after
    another.
    """
    position = first_step * batch_size
    while True:
        yield [_row_at(seed, count, position + i) for i in range(batch_size)]
        position += batch_size


def _row_at(seed: int, count: int, position: int) -> int:
    return _epoch_order(seed, position // count, count)[position % count]


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, count: int) -> tuple[int, ...]:
    def rank(row: int) -> bytes:
        return hashlib.sha256(f"commonlore/order/1/{seed}/{epoch}/{row}".encode()).digest()

    return tuple(sorted(range(count), key=rank))
