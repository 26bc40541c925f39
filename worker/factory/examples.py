"""Examples as tokens, and the order in which a run meets them.

Rules of this file:
- A prompt's tokens are those that the engine would see: the base's own chat template, ready for the
  assistant's turn. The answer follows, then the base's end token; only these two are scored.
- The order is a function of (seed, epoch): rows sorted by a hash. No library's generator, so that the same
  job gives the same run in every version, and a resumed run meets what the killed one would have met.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...protocol.errors import ConfigError
from ...protocol.requests.records import ChatMessage
from ..models.reference import BaseModel
from .job import Pair


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids; those from `answer_start` on are scored, each predicted from the ones before it."""

    tokens: tuple[int, ...]
    answer_start: int


class Encoder:
    """Turns text into examples for one base."""

    def __init__(self, base: BaseModel) -> None:
        self._tokenizer = base.tokenizer()
        self._end = base.architecture.eos_token_ids[:1]

    def pair(self, pair: Pair) -> Example:
        """A row: its question as the user's turn, its answer with the end token."""
        prompt = self._tokenizer.encode_chat((ChatMessage("user", pair.question),))
        return Example((*prompt, *self._tokenizer.encode(pair.answer), *self._end), len(prompt))

    def answer(self, messages: Sequence[ChatMessage], output: Sequence[int]) -> Example:
        """An answer that a model gave: the conversation, and the output tokens as they were."""
        prompt = self._tokenizer.encode_chat(messages)
        return Example((*prompt, *output), len(prompt))

    def output_tokens(self, text: str) -> list[int]:
        """An answer's text as the tokens it would have been, with the end token."""
        return [*self._tokenizer.encode(text), *self._end]


def encode_pairs(encoder: Encoder, pairs: Sequence[Pair], max_tokens: int) -> list[Example]:
    """All pairs as examples.

    Raises ConfigError where one is longer than `max_tokens`, named by its number from 1.
    """
    examples = [encoder.pair(pair) for pair in pairs]
    for number, example in enumerate(examples, 1):
        if len(example.tokens) > max_tokens:
            raise ConfigError(
                f"row {number} has {len(example.tokens)} tokens; this job takes {max_tokens}: "
                "shorten it or raise max_tokens"
            )
    return examples


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


def _epoch_order(seed: int, epoch: int, count: int) -> list[int]:
    def rank(row: int) -> bytes:
        return hashlib.sha256(f"commonlore/order/1/{seed}/{epoch}/{row}".encode()).digest()

    return sorted(range(count), key=rank)
