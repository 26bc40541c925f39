"""What a worker says to its client, as long as the client's patience lasts (`patience`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import trio

from ...protocol.errors import Unreachable
from ...protocol.inference.conversation import InferenceStream
from ...protocol.inference.messages import Accepted, Message
from ..clock import Clock
from ..wire.calls import Call, EndOfCall
from .answers import Answer, AskOptions
from .attempt_parts import AttemptTerms, Offer
from .patience import RECONSIDER_S, Patience, until_accepted, until_first_token, until_next

BYTES_PER_TOKEN = 3


class Hearing:
    """The worker's messages of one attempt."""

    def __init__(self, clock: Clock, stream: InferenceStream, offer: Offer, terms: AttemptTerms) -> None:
        self._clock = clock
        self._stream = stream
        self._offer = offer
        self._terms = terms
        self._patience: Callable[[float], Patience] = until_accepted

    async def receive(self, call: Call, tokens: int) -> Message:
        """The next message. `tokens`: about how many the worker reads before its first.

        Raises Unreachable when the worker is to be left, or has left; ProtocolError.
        """
        since = trio.current_time()
        try:
            message = self._stream.receive(await self._await_body(call))
        except trio.TooSlowError:
            silent = trio.current_time() - since
            raise Unreachable(f"worker {self._offer.peer} said nothing for {silent:.1f} s") from None
        except EndOfCall:
            raise Unreachable(f"worker {self._offer.peer} ended the answer before its last receipt") from None
        self._patience = self._after(message, tokens)
        return message

    async def _await_body(self, call: Call) -> bytes:
        """Raises TooSlowError when the worker is to be left."""
        left_s = (self._terms.deadline_ms - self._clock.now_ms()) / 1000
        patience = self._patience(left_s)
        with trio.fail_after(patience.hard_s):
            with trio.move_on_after(patience.soft_s):
                return await call.receive()
            while not self._terms.has_other():
                with trio.move_on_after(RECONSIDER_S):
                    return await call.receive()
        raise trio.TooSlowError

    def _after(self, message: Message, tokens: int) -> Callable[[float], Patience]:
        """How long to wait after this message, by the seconds that are left."""
        if not isinstance(message, Accepted):
            return until_next
        return partial(until_first_token, message, self._offer.ad.max_batch, tokens)


def prompt_tokens(options: AskOptions, answer: Answer) -> int:
    """About how many tokens a worker reads for this ask, those that others delivered included."""
    prompt_bytes = sum(len(turn.content.encode()) for turn in options.messages)
    return prompt_bytes // BYTES_PER_TOKEN + len(answer.transcript.tokens)
