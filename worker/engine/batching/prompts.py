"""A request made ready for an engine: checked, tokenised, its delivered part replayed.

Any thread may do this.

Rules of this file:
- Whatever is wrong with a request is found here, before it costs a step, and is that request's error alone.
- A continuation is brought to the state that the uninterrupted answer had after its delivered tokens: the
  same text held back, the same position; it may turn out to be complete already.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ....protocol.errors import Refused, RemoteProtocolError
from ....protocol.inference.messages import RefusalCode
from ....protocol.requests.records import ChatMessage
from ....protocol.requests.rules import MAX_TOP_LOGPROBS, check_adapters, check_sampling
from ...models.architecture import Architecture
from ...models.chat import ChatTokenizer
from ..types import FinishReason, GenerationRequest
from .text import TextStream


@dataclass(slots=True)
class Answer:
    """The output side of one request: its tokens from position 0 on, their text, and whether it is over."""

    request: GenerationRequest
    eos_token_ids: frozenset[int]
    room: int
    text: TextStream
    tokens: list[int] = field(default_factory=list)
    finish: FinishReason | None = None

    def push(self, token: int) -> str:
        """Add the next token; gives the text that it makes certain, and sets `finish` when it is the last."""
        self.tokens.append(token)
        text = "" if token in self.eos_token_ids else self.text.push(token)
        if token in self.eos_token_ids or self.text.stopped:
            self.finish = FinishReason.STOP
        elif len(self.tokens) >= min(self.request.sampling.max_tokens, self.room):
            self.finish = FinishReason.LENGTH
        return text if self.finish is None else text + self._rest()

    def _rest(self) -> str:
        rest = self.text.finish()
        if self.text.stopped:
            self.finish = FinishReason.STOP  # the bytes held back completed a stop string
        return rest


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `Engine.add` takes. `deadline` is on time.monotonic()'s clock, in seconds."""

    request: GenerationRequest
    prompt: tuple[int, ...]
    answer: Answer
    deadline: float | None


class Prompts:
    """Makes requests ready for an engine that has `max_context` tokens."""

    def __init__(self, tokenizer: ChatTokenizer, architecture: Architecture, max_context: int) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = architecture.vocabulary
        self._eos = frozenset(architecture.eos_token_ids)
        self._max_context = max_context

    def count_tokens(self, messages: Sequence[ChatMessage]) -> int:
        """Tokens of the prompt that these turns become. Raises InvalidModel."""
        return len(self._tokenizer.encode_chat(messages))

    def prepare(self, request: GenerationRequest) -> Prepared:
        """Raises RemoteProtocolError for a malformed request, Refused(too_long), InvalidModel for an unusable
        template.
        """
        _check(request)
        prompt = request.prompt_tokens or tuple(self._tokenizer.encode_chat(request.messages))
        self._check_tokens(prompt + request.delivered)
        room = self._max_context - len(prompt)
        if len(request.delivered) >= room:
            raise Refused(
                RefusalCode.TOO_LONG,
                f"the prompt and what was delivered are {len(prompt) + len(request.delivered)} tokens; "
                f"this engine's context is {self._max_context}: shorten the conversation",
                retryable=False,
            )
        answer = Answer(request, self._eos, room, TextStream(self._tokenizer.decode, request.stop))
        for token in request.delivered:
            answer.push(token)
        timeout = request.deadline_ms
        return Prepared(
            request, prompt, answer, None if timeout is None else time.monotonic() + timeout / 1000
        )

    def _check_tokens(self, tokens: Sequence[int]) -> None:
        if not tokens:
            raise RemoteProtocolError("the request has an empty prompt")
        if max(tokens) >= self._vocabulary:
            raise RemoteProtocolError(
                f"token id {max(tokens)} lies outside the base's vocabulary of {self._vocabulary}"
            )


def _check(request: GenerationRequest) -> None:
    check_sampling(request.sampling)
    check_adapters(request.adapters)
    if bool(request.messages) == bool(request.prompt_tokens):
        raise RemoteProtocolError("a request needs either messages or prompt tokens")
    if request.top_logprobs > MAX_TOP_LOGPROBS:
        raise RemoteProtocolError(
            f"top_logprobs is {request.top_logprobs}; at most {MAX_TOP_LOGPROBS} are given"
        )
    if len(request.delivered) > request.sampling.max_tokens:
        raise RemoteProtocolError("more tokens were delivered than the request's max_tokens")
