"""One request's conversation between a client and a worker, without I/O.

Rules of this file:

- The order of messages is the table in `transitions`; that each says what it must, given those before it, is
  checked here: chunks follow each other, receipts cover exactly what was delivered, vouchers name the
  receipt. What a message is worth (prices, signatures) is judged in `requests.rules` and `receipts.rules`.
- `send` checks before it encodes and `receive` checks before it believes, by the same functions; a message
  that fails changes nothing. After a RemoteProtocolError the conversation is broken for good.
- A chunk's `start` counts from the first output token of this request. `sampling.max_tokens` bounds the whole
  answer: tokens that another worker delivered before, named in the prompt, count as part of it.
- What a client must hold is bounded by what it asked for: text by the tokens it belongs to, and the prompt
  tokens of a receipt by the prompt (`requests.rules.most_prompt_tokens`). A chunk says something.
- The worker answers a cancel with a final receipt for the tokens delivered since the last receipt, or, where
  there are none, with the refusal `cancelled`: a prefill alone is not paid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from ..encoding.codec import decode_message, encode_message
from ..errors import LocalProtocolError, ProtocolError, Refused, RemoteProtocolError
from ..receipts.outputs import RunningHash, output_root
from ..receipts.records import Receipt
from ..receipts.rules import Step, check_delivered, check_voucher_names
from ..requests.records import InferenceRequest
from ..requests.rules import most_prompt_tokens, request_hash
from ..signing.eip712 import Domain
from .messages import (
    Accepted,
    Ask,
    Cancel,
    Message,
    ReceiptMessage,
    Refusal,
    RefusalCode,
    TokenChunk,
    TokenLogprob,
    VoucherMessage,
)
from .transitions import (
    CROSSING,
    ENDS,
    FROM_CLIENT,
    FROM_WORKER,
    TRANSITIONS,
    Event,
    Role,
    State,
    event_of,
    next_state,
)

TEXT_ALLOWANCE, TEXT_PER_TOKEN = 1_024, 1_024
"""Bytes of text: what an earlier worker may have held back, and the longest that a token may complete."""

__all__ = [
    "TEXT_ALLOWANCE",
    "TEXT_PER_TOKEN",
    "TRANSITIONS",
    "Event",
    "InferenceStream",
    "Role",
    "RunningHash",
    "State",
    "output_root",
    "refused",
]


@dataclass(frozen=True, slots=True)
class Progress:
    """Everything a conversation remembers. The request comes with the ask; `receipt` is the unpaid one.

    `limit` is how many output tokens this conversation may have, `delivered` how many it had so far, `text`
    the bytes of their text; `prompt_limit` is how many prompt tokens may be charged.
    """

    state: State = State.START
    request: InferenceRequest | None = None
    request_hash: bytes = b""
    running: RunningHash = field(default_factory=lambda: RunningHash(b""))
    limit: int = 0
    prompt_limit: int = 0
    delivered: int = 0
    text: int = 0
    step: Step = field(default_factory=Step)
    receipt: Receipt | None = None


class InferenceStream:
    """One side of one request. Feed it what arrives, ask it what to write; it does neither itself."""

    def __init__(self, role: Role, domain: Domain) -> None:
        self.role = role
        self._domain = domain
        self._progress = Progress()

    @property
    def state(self) -> State:
        """Where the conversation is, as this side knows."""
        return self._progress.state

    @property
    def over(self) -> bool:
        """Whether nothing more will be sent or understood."""
        return self.state in ENDS

    @property
    def request(self) -> InferenceRequest:
        """The request that was asked. Raises LocalProtocolError before."""
        return _asked(self._progress)

    @property
    def request_hash(self) -> bytes:
        """Its EIP-712 digest, 32 bytes; empty before the ask."""
        return self._progress.request_hash

    @property
    def step(self) -> Step:
        """What the next receipt is about, or the unpaid one was: a voucher begins the next step."""
        return self._progress.step

    @property
    def delivered(self) -> int:
        """Output tokens of this request sent or received so far: where the next chunk starts."""
        return self._progress.delivered

    @property
    def unpaid(self) -> Receipt | None:
        """The receipt whose voucher is awaited."""
        return self._progress.receipt

    def make_chunk(
        self, tokens: Sequence[int], text: str, logprobs: tuple[TokenLogprob, ...] = ()
    ) -> TokenChunk:
        """The worker's next chunk, placed and hashed. Raises LocalProtocolError before the ask."""
        _asked(self._progress)
        running = self._progress.running
        return TokenChunk(
            self.delivered, tuple(tokens), text, running.extend(tokens).since(running), logprobs
        )

    def send(self, message: Message) -> bytes:
        """The frame body to write. Raises LocalProtocolError where this side must not send that now."""
        try:
            self._require_my_turn(message)
            progress = _apply(self._domain, self._progress, self.role, message)
        except RemoteProtocolError as wrong:  # a shared rule, broken here
            raise LocalProtocolError(str(wrong)) from None
        body = encode_message(message)
        self._progress = progress
        return body

    def receive(self, data: bytes) -> Message:
        """The message in a frame body. Raises RemoteProtocolError where the other side must not send it."""
        sender = Role.WORKER if self.role is Role.CLIENT else Role.CLIENT
        try:
            message = _decode(sender, data)
            self._progress = _apply(self._domain, self._progress, sender, message)
        except ProtocolError as wrong:
            self._progress = replace(self._progress, state=State.BROKEN)
            if isinstance(wrong, RemoteProtocolError):
                raise
            raise RemoteProtocolError(str(wrong)) from None
        return message

    def receive_end(self) -> None:
        """The other side closed. Raises RemoteProtocolError unless the conversation was over."""
        if not self.over:
            state, self._progress = self.state, replace(self._progress, state=State.BROKEN)
            raise RemoteProtocolError(f"the stream ended while the request was {state.value}")

    def _require_my_turn(self, message: Message) -> None:
        event = event_of(message)
        if (self.state, self.role, event) in CROSSING:
            raise LocalProtocolError(
                f"no {event.value} can be sent any more: the request is {self.state.value}"
            )
        if self.state is State.CANCELLING and event is Event.FINAL_RECEIPT and not self.step.tokens:
            raise LocalProtocolError("nothing was delivered since the last receipt: refuse with `cancelled`")


def refused(refusal: Refusal) -> Refused:
    """A refusal as the error that a client raises; codes from newer versions count as `failed`."""
    known = refusal.code in {code.value for code in RefusalCode}
    code = refusal.code if known else RefusalCode.FAILED.value
    return Refused(code, refusal.message, retryable=refusal.retryable, epoch=refusal.epoch)


# ---- one message applied: order first, then what it says


def _apply(domain: Domain, progress: Progress, sender: Role, message: Message) -> Progress:
    """What is known after a message. Raises RemoteProtocolError, whoever sent it."""
    state = next_state(progress.state, sender, event_of(message))
    return replace(_process(domain, progress, message), state=state)


def _process(domain: Domain, progress: Progress, message: Message) -> Progress:
    match message:
        case Ask():
            return _process_ask(domain, progress, message)
        case TokenChunk():
            return _process_chunk(progress, message)
        case ReceiptMessage():
            return _process_receipt(progress, message)
        case VoucherMessage():
            return _process_voucher(domain, progress, message)
        case Accepted() | Refusal() | Cancel():
            return progress
        case _:
            assert_never(message)


def _process_ask(domain: Domain, progress: Progress, ask: Ask) -> Progress:
    request, prompt = ask.signed.request, ask.signed.prompt
    digest, limit = request_hash(domain, request), request.sampling.max_tokens - len(prompt.delivered)
    return replace(
        progress,
        request=request,
        request_hash=digest,
        running=RunningHash(digest),
        limit=max(limit, 0),
        prompt_limit=most_prompt_tokens(prompt.messages),
    )


def _process_chunk(progress: Progress, chunk: TokenChunk) -> Progress:
    before = progress.running
    if chunk.start != progress.delivered:
        raise RemoteProtocolError(
            f"a chunk starts at token {chunk.start}; {progress.delivered} were delivered"
        )
    delivered = progress.delivered + len(chunk.tokens)
    if delivered > progress.limit:
        raise RemoteProtocolError(
            f"{delivered} tokens delivered; the request asks for at most {progress.limit}"
        )
    text = _check_text(progress, chunk, delivered)
    running = before.extend(chunk.tokens)
    if chunk.running_hash != running.since(before):
        raise RemoteProtocolError(f"the running hash at token {delivered} does not follow from the tokens")
    step = replace(progress.step, tokens=(*progress.step.tokens, *chunk.tokens))
    return replace(progress, running=running, delivered=delivered, text=text, step=step)


def _check_text(progress: Progress, chunk: TokenChunk, delivered: int) -> int:
    """The bytes of text so far. Raises RemoteProtocolError where they are more than the tokens can mean."""
    if not chunk.tokens and not chunk.text:
        raise RemoteProtocolError("a chunk that says nothing")
    text = progress.text + len(chunk.text.encode())
    if text > TEXT_ALLOWANCE + TEXT_PER_TOKEN * delivered:
        raise RemoteProtocolError(f"{text} bytes of text for {delivered} tokens")
    return text


def _process_receipt(progress: Progress, message: ReceiptMessage) -> Progress:
    receipt = message.receipt.receipt
    if receipt.request_hash != progress.request_hash:
        raise RemoteProtocolError("the receipt is for another request")
    if not message.final and not progress.step.tokens:
        raise RemoteProtocolError("a step's receipt without tokens; only the final one may have none")
    check_delivered(receipt, progress.step)
    if receipt.prompt_tokens > progress.prompt_limit:
        raise RemoteProtocolError(
            f"receipt.prompt_tokens is {receipt.prompt_tokens}; it is at most {progress.prompt_limit} here"
        )
    return replace(progress, receipt=receipt)


def _process_voucher(domain: Domain, progress: Progress, message: VoucherMessage) -> Progress:
    receipt = progress.receipt
    if receipt is None:
        raise RemoteProtocolError("a voucher without a receipt to pay")
    check_voucher_names(domain, message.voucher.voucher, receipt)
    return replace(progress, receipt=None, step=progress.step.after(receipt))


def _asked(progress: Progress) -> InferenceRequest:
    if progress.request is None:
        raise LocalProtocolError("nothing was asked yet")
    return progress.request


def _decode(sender: Role, data: bytes) -> Message:
    if sender is Role.CLIENT:
        return decode_message(data, FROM_CLIENT)
    return decode_message(data, FROM_WORKER)
